// PyTorch's number of CPU threads, during an evaluation only.
#pragma once

namespace adatom_kim {

// The number is one of the whole process: it is put back when the last evaluation ends, so that
// a Python program around the simulator keeps its own.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(ThreadScope const&) = delete;
  ThreadScope& operator=(ThreadScope const&) = delete;

 private:
  int before_ = 0;
};

}  // namespace adatom_kim
