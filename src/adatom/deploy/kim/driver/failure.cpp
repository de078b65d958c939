#include "failure.hpp"

#include <sstream>

namespace adatom_kim {

std::string one_line(std::string const& message) {
  std::istringstream lines(message);
  std::string line, first, cause;
  while (std::getline(lines, line)) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    // Errors inside of TorchScript end with the line that a Python traceback would end with.
    auto const error = line.find("Error: ");
    if (error != std::string::npos && line.find(' ') > error) cause = line;
    if (first.empty()) first = line;
  }
  return cause.empty() ? first : cause;
}

}  // namespace adatom_kim
