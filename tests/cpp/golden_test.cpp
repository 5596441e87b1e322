// Runs tests/passes/*.ir: text in, pipeline, text out. Rewrites files only under --update-goldens.
//   golden_test FILE [--update-goldens]
// A case is "// case NAME [; pass A, B]", a graph, and "// expect" with what becomes of it; with
// names of passes only those run, in the pipeline's order.
#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <set>
#include <sstream>

#include "ops/ops.h"
#include "passes/pass.h"

namespace planck {
namespace {

bool update_goldens = false;
std::string golden_path;

struct Case {
  std::string title, before, after;
};

std::vector<Case> read_cases(std::istream& in) {
  std::vector<Case> cases;
  std::string line;
  std::string* section = nullptr;
  while (std::getline(in, line)) {
    if (line.starts_with("// case ")) {
      cases.push_back({line.substr(8), "", ""});
      section = &cases.back().before;
    } else if (section != nullptr) {
      if (line.starts_with("// expect")) section = &cases.back().after;
      *section += line + "\n";
    }
  }
  return cases;
}

// All passes that the title does not name; none if it names none.
std::set<std::string, std::less<>> disabled_by(const std::string& title) {
  const size_t at = title.find("; pass ");
  if (at == std::string::npos) return {};
  std::set<std::string, std::less<>> disabled;
  for (const std::string& name : pass_names()) disabled.insert(name);
  std::istringstream names(title.substr(at + 7));
  for (std::string name; std::getline(names >> std::ws, name, ',');) {
    if (disabled.erase(name) == 0) ADD_FAILURE() << "no pass is called '" << name << "'";
  }
  return disabled;
}

std::string run(const Case& c) {
  PassOptions options;
  options.disabled = disabled_by(c.title);
  options.verify_each = true;
  PassReport report;
  Graph g = parse_graph(c.before, builtin_ops());
  run_pipeline(g, options, report);
  std::string expect = "// expect";
  // A pass that only refines facts leaves the text as it was.
  const bool unchanged = print(g) == print(parse_graph(c.before, builtin_ops()));
  if (unchanged) expect += " unchanged";
  for (const PassReport::Refused& r : report.refusals) {
    expect += "; " + r.pass + " at " + r.node + ": " + r.reason;
  }
  return expect + "\n" + (unchanged ? "" : print(g));
}

TEST(Goldens, PassFile) {
  std::ifstream in(golden_path);
  const std::vector<Case> cases = read_cases(in);
  ASSERT_FALSE(cases.empty()) << golden_path << " has no case";
  std::string fresh;
  for (const Case& c : cases) {
    SCOPED_TRACE("case " + c.title);
    std::string after;
    ASSERT_NO_THROW(
        try { after = run(c); } catch (const Error& e) {
          std::cerr << e.what() << '\n';
          throw;
        });
    fresh += "// case " + c.title + "\n" + c.before + after;
    if (!update_goldens) {
      EXPECT_EQ(after, c.after);
    }
  }
  if (update_goldens) std::ofstream(golden_path) << fresh;
}

}  // namespace
}  // namespace planck

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc < 2) {
    std::cerr << "usage: golden_test FILE [--update-goldens]\n";
    return 2;
  }
  planck::golden_path = argv[1];
  planck::update_goldens = argc > 2 && std::string(argv[2]) == "--update-goldens";
  return RUN_ALL_TESTS();
}
