#pragma once
// The lines of a scale file: text ends with LF or CRLF, blank lines are left out.
#include <cstdint>
#include <string_view>

namespace planck {

constexpr std::string_view kBlanks = " \t\r\n\f\v";

constexpr std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) + 1 - first);
}

class Lines {
 public:
  explicit Lines(std::string_view text) : left_(text) {
    if (left_.starts_with("\xef\xbb\xbf")) left_.remove_prefix(3);  // some editors mark UTF-8
  }

  // Goes to the next line that is not blank; false at the end.
  bool next() {
    while (!left_.empty()) {
      const size_t end = left_.find('\n');
      line_ = left_.substr(0, end);
      line_ = line_.substr(0, line_.find_last_not_of(kBlanks) + 1);  // npos + 1 is 0
      left_.remove_prefix(end == std::string_view::npos ? left_.size() : end + 1);
      ++number_;
      if (!line_.empty()) return true;
    }
    return false;
  }

  std::string_view line() const { return line_; }  // without blanks at its end
  int64_t number() const { return number_; }       // counts from 1, blank lines too

 private:
  std::string_view left_, line_;
  int64_t number_ = 0;
};

}  // namespace planck
