#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "base/guard.h"

namespace planck {
namespace {

constexpr size_t kHugePage = 2 << 20;

Bytes copy_range(const Handle& file, int64_t offset, int64_t length, const std::string& name) {
  std::byte* to = nullptr;
  const Tensor block = Tensor::make(DType::u8, {length}, &to);
  constexpr int64_t kPiece = 16 << 20;  // between two checks
  int64_t done = 0;
  while (done < length) {
    check_guard();
    const auto now = static_cast<size_t>(std::min(length - done, kPiece));
    const ssize_t got = pread(file.get(), to + done, now, offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      throw ExternalDataError("'", name, "' ended while it was read: ", done, " of ", length,
                              " bytes at ", offset);
    }
    done += got;
  }
  return {{to, static_cast<size_t>(length)}, std::make_shared<const Tensor>(block)};
}

}  // namespace

void release(const Bytes& bytes) {
  if (!bytes.mapped) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(bytes.span.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(bytes.span.data() + bytes.span.size()) / page * page;
  // A hint: the mapping is private, read-only and of a file, so nothing can be lost.
  // NOLINTNEXTLINE(performance-no-int-to-ptr): whole pages, so addresses are rounded as numbers
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

Handle::~Handle() {
  if (fd_ >= 0) close(fd_);
}

bool may_map(const struct stat& facts) {
  const bool ours = facts.st_uid == geteuid() || facts.st_uid == 0;
  return ours && (facts.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

Bytes map_range(const Handle& file, int64_t offset, int64_t length) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t start = offset / page * page;  // mappings begin on a page
  const auto size = static_cast<size_t>(offset - start + length);
  void* base = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), start);
  if (base == MAP_FAILED) return {};
  // A hint for what is not in the page cache yet.
  if (size >= kHugePage) madvise(base, size, MADV_HUGEPAGE);
  Owner owner(base, [size](const void* p) { munmap(const_cast<void*>(p), size); });
  const auto* data = static_cast<const std::byte*>(base) + (offset - start);
  return {{data, static_cast<size_t>(length)}, std::move(owner), true};
}

Bytes read_range(const Handle& file, const struct stat& facts, int64_t offset, int64_t length,
                 const std::string& name) {
  if (length == 0) return {};
  if (may_map(facts)) {
    Bytes mapped = map_range(file, offset, length);
    if (mapped.owner != nullptr) return mapped;  // some file systems cannot map
  }
  return copy_range(file, offset, length, name);
}

Bytes read_file(const std::string& path, int64_t limit, const char* option,
                const std::string& name) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const Handle file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat facts {};
  if (!file || fstat(file.get(), &facts) != 0) {
    throw with(FileError("cannot open '", name, "': ", std::strerror(errno)),
               {.expected = "a readable file", .got = std::strerror(errno)});
  }
  if (!S_ISREG(facts.st_mode)) {
    throw with(FileError("'", name, "' is not a regular file"), {.expected = "a regular file"});
  }
  if (facts.st_size > limit) {
    throw with(
        LimitError("'", name, "' has ", facts.st_size, " bytes; the limit ", option, " is ", limit),
        {.hint = cat("raise limits.", option, " if you trust this file"),
         .limit = limit,
         .need = facts.st_size,
         .option = option});
  }
  try {
    return read_range(file, facts, 0, facts.st_size, name);
  } catch (const ExternalDataError& e) {  // here the file is the model itself
    throw FileError(e.what());
  }
}

namespace {

[[noreturn]] void cannot_write(const std::string& path, const char* what) {
  const bool full = errno == ENOSPC || errno == EDQUOT;
  throw with(FileError("cannot write '", path, "': ", what, ": ", std::strerror(errno)),
             {.hint = full ? "free some space, or write to another device" : ""});
}

void write_all(int fd, std::span<const std::byte> bytes, const std::string& path) {
  constexpr size_t kMost = 64 << 20;  // one call moves 2 GiB at most
  while (!bytes.empty()) {
    const ssize_t done = write(fd, bytes.data(), std::min(bytes.size(), kMost));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) cannot_write(path, "write");
    bytes = bytes.subspan(static_cast<size_t>(done));
  }
}

// Pieces are written as whole blocks: what comes to the page cache at once, the kernel keeps in
// huge pages where it can, and whoever maps the file has those. Weights read from small pages are
// slower.
class BlockWriter {
 public:
  BlockWriter(int fd, const std::string& path) : fd_(fd), path_(path) { block_.reserve(kHugePage); }
  void add(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const std::span now = bytes.first(std::min(bytes.size(), kHugePage - block_.size()));
      block_.insert(block_.end(), now.begin(), now.end());
      bytes = bytes.subspan(now.size());
      if (block_.size() == kHugePage) flush();
    }
  }
  void flush() {
    write_all(fd_, block_, path_);
    block_.clear();
  }

 private:
  const int fd_;
  const std::string& path_;
  std::vector<std::byte> block_;
};

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// Whether there is something else than a file to be replaced: /dev/null, a pipe, a folder.
bool is_no_file(const std::string& path) {
  struct stat facts {};
  return stat(path.c_str(), &facts) == 0 && !S_ISREG(facts.st_mode);
}

void write_through(const std::string& path, const std::function<void(const ByteSink&)>& body) {
  const Handle file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) cannot_write(path, "open");
  body([&](std::span<const std::byte> bytes) { write_all(file.get(), bytes, path); });
}

// A rename onto a link would replace the link, not the file that it names.
std::string behind_links(const std::string& path) {
  std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), std::free);
  return real ? std::string(real.get()) : path;
}

}  // namespace

void write_atomically(const std::string& given, const std::function<void(const ByteSink&)>& body) {
  if (is_no_file(given)) return write_through(given, body);
  static std::atomic<int> counter{0};
  const std::string path = behind_links(given);
  const std::string temporary = cat(path, ".", getpid(), ".", counter++, ".tmp");
  const Handle file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file) cannot_write(path, "temporary file");
  struct Remove {
    const std::string& name;
    bool armed = true;
    ~Remove() {
      if (armed) unlink(name.c_str());
    }
  } remove{temporary};
  BlockWriter writer(file.get(), path);
  body([&](std::span<const std::byte> bytes) { writer.add(bytes); });
  writer.flush();
  if (fsync(file.get()) != 0) cannot_write(path, "fsync");
  if (rename(temporary.c_str(), path.c_str()) != 0) cannot_write(path, "rename");
  remove.armed = false;
  const Handle folder(open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder) fsync(folder.get());  // some file systems refuse; the rename stands
}

}  // namespace planck
