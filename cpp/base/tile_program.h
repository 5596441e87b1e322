#pragma once
// A tile program: element-wise arithmetic over a 2-D strip of rows x columns, as data.
// It runs alone (element-wise steps) or as the epilogue of a product, where operand 0 is the
// product itself. One definition serves every backend; the reference is its text read in double.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace planck {

// base/tile_ops.inc: name, arity. Arithmetic is fp32, one rounding for each instruction.
enum class TileOp : uint8_t {
#define PLANCK_TILE_OP(name, arity) name,
#include "base/tile_ops.inc"
#undef PLANCK_TILE_OP
};

struct TileOpInfo {
  TileOp op;
  std::string_view name;
  int arity;
};
inline constexpr TileOpInfo kTileOps[] = {
#define PLANCK_TILE_OP(name, arity) {TileOp::name, #name, arity},
#include "base/tile_ops.inc"
#undef PLANCK_TILE_OP
};
constexpr const TileOpInfo& info(TileOp op) { return kTileOps[static_cast<int>(op)]; }

// How an operand lies over the strip: a step of 0 repeats it along that direction.
enum class Broadcast : uint8_t { none, per_column, per_row, scalar };

// One instruction; its result is named by its index. a, b, c name earlier instructions, except
// for `operand` (a: which operand) and `constant` (imm).
struct TileInstr {
  TileOp op = TileOp::operand;
  int16_t a = 0, b = 0, c = 0;
  float imm = 0;
  bool operator==(const TileInstr&) const = default;
  static void fields(auto& s, auto& visit) {
    visit("op", s.op);
    visit("a", s.a);
    visit("b", s.b);
    visit("c", s.c);
    visit("imm", s.imm);
  }
};

struct TileProgram {
  std::vector<Broadcast> operands;  // operand 0 of an epilogue is the product
  std::vector<TileInstr> body;      // the last result is stored
  bool operator==(const TileProgram&) const = default;
  static void fields(auto& s, auto& visit) {
    visit("operands", s.operands);
    visit("body", s.body);
  }

  int16_t operand(int16_t index) { return push({TileOp::operand, index, 0, 0, 0}); }
  int16_t constant(float value) { return push({TileOp::constant, 0, 0, 0, value}); }
  int16_t apply(TileOp op, int16_t a, int16_t b = 0, int16_t c = 0) {
    return push({op, a, b, c, 0});
  }

 private:
  int16_t push(TileInstr instr) {
    body.push_back(instr);
    return static_cast<int16_t>(body.size() - 1);
  }
};

}  // namespace planck
