// Hides instruction sets beyond AVX2 from chosen libraries of a process, so that engines choose
// what they would choose on a machine of the AVX2 class.
//
// Loaded by the dynamic linker (LD_AUDIT): before a library's constructors run, each of its CPUID
// instructions that the file PLANCK_CPUID_SITES lists ("hexadecimal address, space, real path" a
// line) becomes UD2, which has the same length, and the handler of its signal answers in its place.
// Meaning of the bits: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2,
// CPUID.
#define _GNU_SOURCE
#include <cpuid.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { kEax, kEbx, kEcx, kEdx };

#define BIT(n) (UINT32_C(1) << (n))

// AVX-512 in all its parts, AVX-VNNI, AVX-IFMA, AVX10, AMX.
static void hide(uint32_t leaf, uint32_t part, uint32_t r[4]) {
  if (leaf == 7 && part == 0) {
    r[kEbx] &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
    r[kEcx] &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
    r[kEdx] &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
  } else if (leaf == 7 && part == 1) {
    r[kEax] &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23));
    r[kEdx] &= ~(BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19));
  }
}

static void answer(int signal_number, siginfo_t* info, void* context) {
  (void)info;
  greg_t* g = ((ucontext_t*)context)->uc_mcontext.gregs;
  const uint8_t* at = (const uint8_t*)g[REG_RIP];
  if (at[0] != 0x0F || at[1] != 0x0B) {  // a true illegal instruction: as without this library
    signal(signal_number, SIG_DFL);
    return;
  }
  const uint32_t leaf = (uint32_t)g[REG_RAX], part = (uint32_t)g[REG_RCX];
  uint32_t r[4];
  __cpuid_count(leaf, part, r[kEax], r[kEbx], r[kEcx], r[kEdx]);
  hide(leaf, part, r);
  g[REG_RAX] = r[kEax], g[REG_RBX] = r[kEbx], g[REG_RCX] = r[kEcx], g[REG_RDX] = r[kEdx];
  g[REG_RIP] += 2;
}

static void replace(uint8_t* at, const char* path) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)at & ~(page - 1);
  if (at[0] != 0x0F || at[1] != 0xA2) {
    fprintf(stderr, "mask_isa: %s has no CPUID where the list says; was it replaced?\n", path);
    _exit(2);
  }
  mprotect((void*)first, 2 * page, PROT_READ | PROT_WRITE | PROT_EXEC);
  at[1] = 0x0B;
  mprotect((void*)first, 2 * page, PROT_READ | PROT_EXEC);
}

unsigned int la_version(unsigned int version) { return version; }

unsigned int la_objopen(struct link_map* map, Lmid_t space, uintptr_t* cookie) {
  (void)space, (void)cookie;
  const char* list = getenv("PLANCK_CPUID_SITES");
  char path[PATH_MAX], wanted[PATH_MAX], line[PATH_MAX + 32];
  unsigned long address;
  if (list == NULL || map->l_name == NULL || realpath(map->l_name, path) == NULL) return 0;
  FILE* file = fopen(list, "r");
  if (file == NULL) {
    fprintf(stderr, "mask_isa: cannot read %s\n", list);
    _exit(2);
  }
  struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER};
  action.sa_sigaction = answer;
  while (fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "%lx %4095[^\n]", &address, wanted) != 2 || strcmp(wanted, path) != 0)
      continue;
    sigaction(SIGILL, &action, NULL);
    replace((uint8_t*)(map->l_addr + address), path);
  }
  fclose(file);
  return 0;
}
