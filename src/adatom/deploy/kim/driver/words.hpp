// The words of a text file. A comment runs from # to the end of its line; layout does not matter.
#pragma once

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <istream>
#include <sstream>
#include <string>
#include <vector>

#include "failure.hpp"

namespace adatom_kim {

inline std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// Whether the whole of ``word`` is a finite number; if so, it is put into ``value``.
inline bool is_number(std::string const& word, double& value) {
  std::istringstream text(word);
  return (text >> value) && text.eof() && std::isfinite(value);
}

// Takes words one after the other; what is not as expected throws Failure that says so.
class Words {
 public:
  explicit Words(std::istream& stream) {
    std::string line, word;
    while (std::getline(stream, line)) {
      std::istringstream words(line.substr(0, line.find('#')));
      while (words >> word) all_.push_back(word);
    }
  }

  bool empty() const { return at_ == all_.size(); }
  std::size_t left() const { return all_.size() - at_; }
  std::string peek() const { return empty() ? std::string() : all_[at_]; }

  std::string next(std::string const& what) {
    if (empty()) throw Failure("It ends before " + what + ".");
    return all_[at_++];
  }

  int whole(std::string const& what, int least = 1) {
    std::string const word = next(what);
    int value = 0;
    char const* const end = word.data() + word.size();
    auto const [stop, error] = std::from_chars(word.data(), end, value);
    if (error != std::errc() || stop != end || value < least)
      throw Failure("It has '" + word + "' for " + what + "; expected a " +
                    (least == 1 ? "positive whole number."
                                : "whole number from " + std::to_string(least) + "."));
    return value;
  }

  double number(std::string const& what) {
    std::string const word = next(what);
    double value = 0.0;
    if (!is_number(word, value))
      throw Failure("It has '" + word + "' for " + what + "; expected a number.");
    return value;
  }

  double length(std::string const& what) {
    std::string const word = next(what);
    double value = 0.0;
    if (!is_number(word, value) || value <= 0.0)
      throw Failure("It has '" + word + "' for " + what + "; expected a positive length.");
    return value;
  }

  bool flag(std::string const& what) {
    std::string const word = lower(next(what));
    if (word == "1" || word == "true") return true;
    if (word == "0" || word == "false") return false;
    throw Failure("It has '" + word + "' for " + what + "; expected 0, 1, False or True.");
  }

 private:
  std::vector<std::string> all_;
  std::size_t at_ = 0;
};

}  // namespace adatom_kim
