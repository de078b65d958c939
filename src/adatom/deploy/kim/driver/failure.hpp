// One kind of error for everything that is wrong with a file, a request or a machine.
#pragma once

#include <stdexcept>
#include <string>

namespace adatom_kim {

// The message is one clear sentence or two: what was found, what was expected, what to do.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What an exception says, in one line. PyTorch's messages come with traces of many lines.
std::string one_line(std::string const& message);

}  // namespace adatom_kim
