// Where the time of evaluations goes, for those who ask: ADATOM_KIM_TIMES names a file.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>

namespace adatom_kim {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Sums of one model; when it is destroyed, they are appended to the file as a line of JSON.
class Times {
 public:
  explicit Times(std::optional<std::string> file) : file_(std::move(file)) {}
  ~Times();
  Times(Times const&) = delete;
  Times& operator=(Times const&) = delete;

  // Add one evaluation, from KIM's call to its return, and the part of it that the network took.
  // Threads may call this at once.
  void add(double seconds, double network_seconds) const;

 private:
  std::optional<std::string> file_;
  mutable std::mutex lock_;
  mutable long calls_ = 0;
  mutable double seconds_ = 0.0, network_seconds_ = 0.0;
};

}  // namespace adatom_kim
