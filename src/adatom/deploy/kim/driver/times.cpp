#include "times.hpp"

#include <fstream>
#include <sstream>

namespace adatom_kim {

Times::~Times() {
  if (!file_ || calls_ == 0) return;
  std::ostringstream line;
  line.precision(9);
  line << "{\"calls\": " << calls_ << ", \"seconds\": " << seconds_
       << ", \"network_seconds\": " << network_seconds_ << "}\n";
  // One write, so that the lines of several ranks do not mix.
  std::ofstream(*file_, std::ios::app) << line.str() << std::flush;
}

void Times::add(double seconds, double network_seconds) const {
  if (!file_) return;
  std::lock_guard<std::mutex> const locked(lock_);
  ++calls_;
  seconds_ += seconds;
  network_seconds_ += network_seconds;
}

}  // namespace adatom_kim
