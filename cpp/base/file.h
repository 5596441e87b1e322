#pragma once
// Files by handle: opened once, checked and read through the same handle.
#include <sys/stat.h>

#include <functional>
#include <span>
#include <string>

#include "base/tensor.h"

namespace planck {

class Handle {
 public:
  Handle() = default;
  explicit Handle(int fd) : fd_(fd) {}
  Handle(Handle&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Handle();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Bytes and who keeps them alive. No owner: the caller does, and only during the import.
struct Bytes {
  std::span<const std::byte> span;
  Owner owner;
  bool mapped = false;
};

// Nobody but us or root can shorten the file under a mapping, which would be a SIGBUS.
bool may_map(const struct stat& facts);

// No owner where the file system cannot map.
Bytes map_range(const Handle& file, int64_t offset, int64_t length);

// Gives whole pages inside a mapped range back to the kernel; they are read again when touched.
void release(const Bytes& bytes);

// Maps the range if may_map, else reads it. ExternalDataError on a short read; `name` is for it.
Bytes read_range(const Handle& file, const struct stat& facts, int64_t offset, int64_t length,
                 const std::string& name);

// A whole regular file. FileError; LimitError above `limit` bytes, naming the option. Errors call
// the file by `name`.
Bytes read_file(const std::string& path, int64_t limit, const char* option,
                const std::string& name);

// Writes a file that is whole or absent: a temporary file in the same folder, which `body` fills
// by calling its argument, then fsync, rename, fsync of the folder. FileError says what failed;
// the old file stays as it was. A link stays one; what is no file, such as /dev/null, is written to
// as it is.
using ByteSink = std::function<void(std::span<const std::byte>)>;
void write_atomically(const std::string& path, const std::function<void(const ByteSink&)>& body);

}  // namespace planck
