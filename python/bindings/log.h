#pragma once

namespace planck {

// Around a call of the library, with the GIL held at both ends: hands the lines that came up on to
// logging.getLogger("planck") when the call is over. `ask_level` looks whether anybody would read
// more than warnings; builds and loads do, runs do not.
class LogCall {
 public:
  explicit LogCall(bool ask_level);
  ~LogCall();
  LogCall(const LogCall&) = delete;
  LogCall& operator=(const LogCall&) = delete;
};

}  // namespace planck
