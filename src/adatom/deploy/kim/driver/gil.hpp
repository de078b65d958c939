// Python's global interpreter lock, where there is an interpreter in this process.
#pragma once

namespace adatom_kim {

// Releases the lock if this thread holds it, and takes it again at the end. PyTorch's autograd
// refuses to run under the lock once Python has imported torch. Nothing of Python is linked:
// in a process without an interpreter this does nothing.
class GilRelease {
 public:
  GilRelease();
  ~GilRelease();
  GilRelease(GilRelease const&) = delete;
  GilRelease& operator=(GilRelease const&) = delete;

 private:
  void* state_ = nullptr;
};

}  // namespace adatom_kim
