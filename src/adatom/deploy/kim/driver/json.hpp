// A reader for JSON (RFC 8259), as much as adatom.json needs.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

namespace adatom_kim {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json>;

  Json() = default;
  explicit Json(std::variant<std::nullptr_t, bool, double, std::string, Array, Object> value)
      : value_(std::move(value)) {}

  // Throws Failure, naming the place, if the text is not JSON.
  static Json parse(std::string const& text);

  bool has(std::string const& key) const;
  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  // The member of an object. Throws Failure if it is missing.
  Json const& at(std::string const& key) const;
  // The value in its type; ``key`` is what a failure calls it.
  std::string const& text(std::string const& key) const;
  double number(std::string const& key) const;
  int whole(std::string const& key) const;
  bool boolean(std::string const& key) const;
  std::vector<std::string> texts(std::string const& key) const;
  std::vector<int> wholes(std::string const& key) const;

 private:
  std::variant<std::nullptr_t, bool, double, std::string, Array, Object> value_ = nullptr;
};

}  // namespace adatom_kim
