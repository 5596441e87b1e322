#pragma once
// The only code that opens a file which a model names.
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"

namespace planck::importer {

// The external_data entries of a tensor, unchecked.
using ExternalEntries = std::vector<std::pair<std::string, std::string>>;

// How a location is opened beneath the folder; both ways give the same answers.
enum class OpenBy { kernel, components };  // openat2, or component by component
// A handle to a regular file with one link on the folder's device, and its facts.
// ExternalDataError otherwise. By kernel falls back to components where openat2 is missing.
std::pair<Handle, struct stat> open_beneath(const Handle& folder, const std::string& location,
                                            OpenBy how = OpenBy::kernel);

class ExternalData {
 public:
  // `folder` may be empty: then there is none, and every request is an ExternalDataError.
  explicit ExternalData(std::string folder) : folder_path_(std::move(folder)) {}

  // The payload of a tensor of `size` bytes. Every error is an ExternalDataError.
  Bytes read(const ExternalEntries& entries, int64_t size);

 private:
  struct File {
    Handle handle;
    struct stat facts {};
    Bytes whole;                        // one mapping for all its tensors, if it may be mapped
    std::map<int64_t, int64_t> taken;   // begin -> end, to find overlaps
    std::optional<std::string> digest;  // SHA-1, once asked for
  };
  File& file(const std::string& location);
  static void take(File& file, int64_t offset, int64_t length, const std::string& location);
  static void check_digest(File& file, const std::string& expected, const std::string& location);

  std::string folder_path_;
  Handle folder_;
  std::map<std::pair<dev_t, ino_t>, File> files_;  // one handle each, whatever it is called
  std::map<std::string, File*, std::less<>> locations_;
};

}  // namespace planck::importer
