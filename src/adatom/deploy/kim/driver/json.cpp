#include "json.hpp"

#include <cmath>
#include <cstdlib>

#include "failure.hpp"

namespace adatom_kim {
namespace {

constexpr int deepest = 64;

class Parser {
 public:
  explicit Parser(std::string const& text) : text_(text) {}

  Json document() {
    Json const found = value(0);
    blanks();
    if (at_ != text_.size()) wrong("something after the end");
    return found;
  }

 private:
  [[noreturn]] void wrong(std::string const& what) const {
    throw Failure("It is not JSON: " + what + " at character " + std::to_string(at_) + ".");
  }

  void blanks() {
    while (at_ < text_.size() && std::string(" \t\r\n").find(text_[at_]) != std::string::npos) ++at_;
  }

  char peek() {
    blanks();
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  void expect(char wanted) {
    if (peek() != wanted) wrong(std::string("no '") + wanted + "'");
    ++at_;
  }

  bool word(std::string const& wanted) {
    if (text_.compare(at_, wanted.size(), wanted) != 0) return false;
    at_ += wanted.size();
    return true;
  }

  Json value(int depth) {
    if (depth > deepest) wrong("too many levels");
    switch (peek()) {
      case '{': return object(depth);
      case '[': return array(depth);
      case '"': return Json(string());
      default: break;
    }
    if (word("true")) return Json(true);
    if (word("false")) return Json(false);
    if (word("null")) return Json(nullptr);
    return number();
  }

  Json number() {
    char* end = nullptr;
    char const* const start = text_.c_str() + at_;
    if (*start != '-' && (*start < '0' || *start > '9')) wrong("no value");
    double const found = std::strtod(start, &end);
    if (end == start || !std::isfinite(found)) wrong("no number");
    at_ += static_cast<std::size_t>(end - start);
    return Json(found);
  }

  Json object(int depth) {
    Json::Object found;
    expect('{');
    if (peek() == '}') return ++at_, Json(found);
    while (true) {
      if (peek() != '"') wrong("no name of a member");
      std::string const key = string();
      expect(':');
      found[key] = value(depth + 1);
      if (peek() == ',') {
        ++at_;
        continue;
      }
      expect('}');
      return Json(found);
    }
  }

  Json array(int depth) {
    Json::Array found;
    expect('[');
    if (peek() == ']') return ++at_, Json(found);
    while (true) {
      found.push_back(value(depth + 1));
      if (peek() == ',') {
        ++at_;
        continue;
      }
      expect(']');
      return Json(found);
    }
  }

  std::string string() {
    std::string found;
    expect('"');
    while (at_ < text_.size() && text_[at_] != '"') {
      char const c = text_[at_++];
      if (c == '\\')
        escape(found);
      else
        found += c;
    }
    if (at_ == text_.size()) wrong("a text without end");
    ++at_;
    return found;
  }

  void escape(std::string& found) {
    static std::string const names = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    char const c = at_ < text_.size() ? text_[at_++] : '\0';
    if (c == 'u') return code_point(found);
    auto const which = names.find(c);
    if (c == '\0' || which == std::string::npos) wrong("an unknown escape");
    found += meanings[which];
  }

  unsigned four_digits() {
    if (at_ + 4 > text_.size()) wrong("a short \\u escape");
    char* end = nullptr;
    std::string const digits = text_.substr(at_, 4);
    unsigned long const code = std::strtoul(digits.c_str(), &end, 16);
    if (end != digits.c_str() + 4) wrong("a \\u escape without four digits");
    at_ += 4;
    return static_cast<unsigned>(code);
  }

  // UTF-8 of a \uXXXX escape; two of them make a character beyond the first plane.
  void code_point(std::string& found) {
    unsigned code = four_digits();
    if (code >= 0xd800 && code < 0xdc00 && word("\\u"))
      code = 0x10000 + ((code - 0xd800) << 10) + (four_digits() - 0xdc00);
    auto const tail = [&](int shift) { found += static_cast<char>(0x80 | (code >> shift & 0x3f)); };
    if (code < 0x80) {
      found += static_cast<char>(code);
    } else if (code < 0x800) {
      found += static_cast<char>(0xc0 | code >> 6), tail(0);
    } else if (code < 0x10000) {
      found += static_cast<char>(0xe0 | code >> 12), tail(6), tail(0);
    } else {
      found += static_cast<char>(0xf0 | code >> 18), tail(12), tail(6), tail(0);
    }
  }

  std::string const& text_;
  std::size_t at_ = 0;
};

[[noreturn]] void not_a(std::string const& kind, std::string const& key) {
  throw Failure("'" + key + "' is not " + kind + ".");
}

int to_whole(double value, std::string const& key) {
  if (value != std::floor(value) || std::abs(value) > 1e9) not_a("a whole number", key);
  return static_cast<int>(value);
}

}  // namespace

Json Json::parse(std::string const& text) { return Parser(text).document(); }

bool Json::has(std::string const& key) const {
  auto const* const object = std::get_if<Object>(&value_);
  return object != nullptr && object->count(key) != 0;
}

Json const& Json::at(std::string const& key) const {
  if (!has(key)) throw Failure("'" + key + "' is missing.");
  return std::get<Object>(value_).at(key);
}

std::string const& Json::text(std::string const& key) const {
  auto const* const found = std::get_if<std::string>(&at(key).value_);
  if (found == nullptr) not_a("a text", key);
  return *found;
}

double Json::number(std::string const& key) const {
  auto const* const found = std::get_if<double>(&at(key).value_);
  if (found == nullptr) not_a("a number", key);
  return *found;
}

int Json::whole(std::string const& key) const {
  return to_whole(number(key), key);
}

bool Json::boolean(std::string const& key) const {
  auto const* const found = std::get_if<bool>(&at(key).value_);
  if (found == nullptr) not_a("true or false", key);
  return *found;
}

std::vector<std::string> Json::texts(std::string const& key) const {
  auto const* const found = std::get_if<Array>(&at(key).value_);
  if (found == nullptr) not_a("a list", key);
  std::vector<std::string> all;
  for (Json const& each : *found) {
    auto const* const text = std::get_if<std::string>(&each.value_);
    if (text == nullptr) not_a("a list of texts", key);
    all.push_back(*text);
  }
  return all;
}

std::vector<int> Json::wholes(std::string const& key) const {
  auto const* const found = std::get_if<Array>(&at(key).value_);
  if (found == nullptr) not_a("a list", key);
  std::vector<int> all;
  for (Json const& each : *found) {
    auto const* const value = std::get_if<double>(&each.value_);
    if (value == nullptr) not_a("a list of whole numbers", key);
    all.push_back(to_whole(*value, key));
  }
  return all;
}

}  // namespace adatom_kim
