#include "importer/external_data.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "importer/sha1.h"

namespace planck::importer {
namespace {

// O_NONBLOCK: a FIFO is refused at once instead of waiting for its writer.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW;

[[noreturn]] void refuse(const std::string& location, const auto&... why) {
  std::string shown;  // the location is the model's text: it may hold anything
  for (const char c : location.substr(0, 200)) {
    shown += std::isprint(static_cast<unsigned char>(c)) != 0 ? c : '?';
  }
  throw with(ExternalDataError("external data '", shown, "' ", why...),
             {.expected = "a regular file beneath the model's folder", .got = shown});
}

// The location's parts; "./" is dropped, everything that could leave the folder is refused.
std::vector<std::string> parts_of(const std::string& location) {
  if (location.empty()) refuse(location, "has no name");
  if (location.find('\0') != std::string::npos) refuse(location, "contains NUL");
  if (location.front() == '/') refuse(location, "is absolute");
  if (location.find('\\') != std::string::npos) refuse(location, "contains a backslash");
  if (location.size() > 1 && location[1] == ':') refuse(location, "names a drive");
  if (location.starts_with("*/")) refuse(location, "is a private marker of another runtime");
  std::vector<std::string> parts;
  std::string part;
  for (size_t at = 0; at <= location.size();) {
    const size_t end = std::min(location.find('/', at), location.size());
    part = location.substr(at, end - at);
    if (part == "..") refuse(location, "leaves the model's folder");
    if (!part.empty() && part != ".") parts.push_back(part);
    at = end + 1;
  }
  if (parts.empty() || part.empty() || part == ".") refuse(location, "names a folder");
  return parts;
}

// The handle, or none with errno set.
Handle open_by_kernel(const Handle& folder, const std::vector<std::string>& parts) {
  struct open_how how {};
  how.flags = static_cast<uint64_t>(kOpenFlags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const std::string path = joined(parts, "/");
  return Handle(
      static_cast<int>(syscall(SYS_openat2, folder.get(), path.c_str(), &how, sizeof(how))));
}

Handle open_by_components(const Handle& folder, const std::vector<std::string>& parts) {
  Handle parent;
  int at = folder.get();
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    parent = Handle(openat(at, parts[i].c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!parent) return {};
    at = parent.get();
  }
  // Looked at before it is opened (a device could act on being opened), compared afterwards.
  struct stat before {
  }, after{};
  if (fstatat(at, parts.back().c_str(), &before, AT_SYMLINK_NOFOLLOW) != 0) return {};
  if (!S_ISREG(before.st_mode)) {
    errno = S_ISLNK(before.st_mode) ? ELOOP : EINVAL;
    return {};
  }
  Handle file(openat(at, parts.back().c_str(), kOpenFlags));
  if (!file || fstat(file.get(), &after) != 0) return {};
  if (before.st_ino != after.st_ino || before.st_dev != after.st_dev) {
    errno = EAGAIN;
    return {};
  }
  return file;
}

std::string reason(int error) {
  if (error == ELOOP) return "goes through a symbolic link";
  if (error == EXDEV) return "leaves the model's folder";
  if (error == EINVAL || error == ENXIO) return "is not a regular file";
  if (error == EAGAIN) return "was exchanged while it was opened";
  return cat("cannot be opened: ", std::strerror(error));
}

// A plain decimal: no sign, no blanks, no exponent.
int64_t number(const std::string& location, const std::string& key, const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value < 0 ||
      text[0] == '-') {
    refuse(location, "has the ", key, " '", text.substr(0, 40), "', which is no decimal number");
  }
  return value;
}

struct Entries {
  std::string location, checksum;
  int64_t offset = 0;
  std::optional<int64_t> length;
};

Entries checked(const ExternalEntries& entries) {
  Entries out;
  std::vector<std::string> seen;
  for (const auto& [key, value] : entries) {
    if (key == "location") out.location = value;
  }
  for (const auto& [key, value] : entries) {
    if (std::ranges::find(seen, key) != seen.end()) refuse(out.location, "has a key twice");
    seen.push_back(key);
    if (key == "offset") {
      out.offset = number(out.location, key, value);
    } else if (key == "length") {
      out.length = number(out.location, key, value);
    } else if (key == "checksum") {
      out.checksum = value;
    } else if (key != "location") {
      refuse(out.location, "has an unknown key '", key.substr(0, 40),
             "'; known are location, offset, length and checksum");
    }
  }
  return out;
}

}  // namespace

std::pair<Handle, struct stat> open_beneath(const Handle& folder, const std::string& location,
                                            OpenBy how) {
  const std::vector<std::string> parts = parts_of(location);
  Handle file;
  if (how == OpenBy::kernel) {
    file = open_by_kernel(folder, parts);
    // Old kernels lack the call, sandboxes forbid it.
    if (!file && (errno == ENOSYS || errno == EPERM)) how = OpenBy::components;
  }
  if (how == OpenBy::components) file = open_by_components(folder, parts);
  if (!file) refuse(location, reason(errno));
  struct stat facts {
  }, home{};
  if (fstat(file.get(), &facts) != 0 || fstat(folder.get(), &home) != 0) {
    refuse(location, reason(errno));
  }
  if (!S_ISREG(facts.st_mode)) refuse(location, "is not a regular file");
  if (facts.st_nlink != 1) {
    refuse(location, "has ", facts.st_nlink, " hard links: it may be another folder's file");
  }
  if (facts.st_dev != home.st_dev) refuse(location, "lies on another device");
  return {std::move(file), facts};
}

ExternalData::File& ExternalData::file(const std::string& location) {
  if (const auto it = locations_.find(location); it != locations_.end()) return *it->second;
  if (folder_path_.empty()) {
    throw with(ExternalDataError("the model was given as bytes and has no folder, but names the "
                                 "external data '",
                                 location.substr(0, 200), "'"),
               {.hint = "give external_data_dir="});
  }
  if (!folder_) {
    folder_ = Handle(open(folder_path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder_) {
      throw ExternalDataError("cannot open the folder '", folder_path_,
                              "': ", std::strerror(errno));
    }
  }
  auto [handle, facts] = open_beneath(folder_, location);
  const auto [it, fresh] = files_.try_emplace({facts.st_dev, facts.st_ino});
  if (fresh) {
    it->second.handle = std::move(handle);
    it->second.facts = facts;
    if (may_map(facts) && facts.st_size > 0) {
      it->second.whole = map_range(it->second.handle, 0, facts.st_size);
    }
  }
  locations_[location] = &it->second;
  return it->second;
}

void ExternalData::take(File& file, int64_t offset, int64_t length, const std::string& location) {
  if (length == 0) return;
  const int64_t end = offset + length;
  const auto next = file.taken.lower_bound(offset);
  const bool before = next != file.taken.begin() && std::prev(next)->second > offset;
  if (before || (next != file.taken.end() && next->first < end)) {
    refuse(location, "is used twice: [", offset, ", ", end, ") overlaps another tensor");
  }
  file.taken.emplace(offset, end);
}

void ExternalData::check_digest(File& file, const std::string& expected,
                                const std::string& location) {
  if (!file.digest) {
    file.digest = sha1(read_range(file.handle, file.facts, 0, file.facts.st_size, location).span);
  }
  std::string lower = expected;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (lower != *file.digest) refuse(location, "has another SHA-1 than its checksum says");
}

Bytes ExternalData::read(const ExternalEntries& entries, int64_t size) {
  const Entries entry = checked(entries);
  File& from = file(entry.location);
  const auto total = static_cast<int64_t>(from.facts.st_size);
  if (entry.offset > total) {
    refuse(entry.location, "has ", total, " bytes, the offset is ", entry.offset);
  }
  const int64_t length = entry.length.value_or(total - entry.offset);  // ONNX: the rest
  if (length > total - entry.offset) {
    refuse(entry.location, "has ", total, " bytes, but ", length, " at ", entry.offset,
           " are asked for");
  }
  if (length != size) {
    refuse(entry.location, "gives ", length, " bytes to a tensor of ", size);
  }
  take(from, entry.offset, length, entry.location);
  if (!entry.checksum.empty()) check_digest(from, entry.checksum, entry.location);
  if (from.whole.owner != nullptr) {
    return {from.whole.span.subspan(static_cast<size_t>(entry.offset), static_cast<size_t>(length)),
            from.whole.owner, true};
  }
  return read_range(from.handle, from.facts, entry.offset, length, entry.location);
}

}  // namespace planck::importer
