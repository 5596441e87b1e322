#pragma once
#include <cstdint>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"

namespace planck {

// What an error knows besides its sentence; empty fields and zeros are not known.
struct ErrorFields {
  std::string node, op_type, domain, subgraph, expected, got, hint;
  std::vector<std::string> items;  // UnsupportedError: every reason
  int64_t limit = 0, need = 0;     // LimitError, OutOfMemoryError; in the limit's unit
  std::string option;              // LimitError, TimeoutError: the name of the limit
};

// One class for each kind of mistake, so that a caller can tell who can mend it. The text is one
// sentence; frames ("in node x") are added while the error travels up.
class Error : public std::exception {
 public:
  const char* what() const noexcept override { return text_.c_str(); }
  const char* code() const noexcept { return code_; }
  const char* kind() const noexcept { return kind_; }  // the class's name
  int exit_code() const noexcept { return exit_code_; }
  ErrorFields fields;

  void add_context(const std::string& frame) { text_ += "\n  in " + frame; }
  // Which node it is about, unless something deeper has said so.
  void locate(std::string_view node, std::string_view op_type, std::string_view domain) {
    if (!fields.node.empty()) return;
    fields.node = node;
    fields.op_type = op_type;
    fields.domain = domain;
  }

 protected:
  struct Kind {
    const char* name;
    const char* code;
    int exit_code;
    const char* hint;
  };
  Error(const Kind& kind, std::string text)
      : text_(std::move(text)), code_(kind.code), kind_(kind.name), exit_code_(kind.exit_code) {
    fields.hint = kind.hint;
  }

 private:
  std::string text_;
  const char* code_;
  const char* kind_;
  int exit_code_;
};

#define PLANCK_ERROR(Name, Base, code, exit, hint)                            \
  class Name : public Base {                                                  \
   public:                                                                    \
    template <class... Parts>                                                 \
    explicit Name(const Parts&... parts)                                      \
        : Base(Kind{#Name, code, exit, hint}, std::string(cat(parts...))) {}  \
    Name(const Name&) = default;                                              \
    Name(Name&) = default; /* else the template would win for lvalues */      \
                                                                              \
   protected:                                                                 \
    Name(const Kind& kind, std::string text) : Base(kind, std::move(text)) {} \
  };
#include "base/errors.inc"
#undef PLANCK_ERROR

// throw with(FeedError("..."), {.expected = "int64", .got = "float32"}): keeps the class, and its
// hint where none is given.
template <class E>
E with(E error, ErrorFields fields) {
  if (fields.hint.empty()) fields.hint = std::move(error.fields.hint);
  error.fields = std::move(fields);
  return error;
}

// Runs body; when it fails, adds one frame, whose text is built only then.
decltype(auto) with_context(auto&& body, const auto&... frame) {
  try {
    return body();
  } catch (Error& e) {
    e.add_context(cat(frame...));
    throw;
  }
}

// A door of the library: whatever body throws leaves as one of our classes.
decltype(auto) typed(auto&& body) {
  try {
    return body();
  } catch (const LimitError& e) {
    log(LogLevel::warning, e.what());
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw OutOfMemoryError("the system gave no memory");
  } catch (const std::exception& e) {
    throw InternalError("unexpected: ", e.what());
  }
}

}  // namespace planck
