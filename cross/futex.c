// Linked into the armv7 binaries only: `syscall` as in musl, but for waits of the futex call.
//
// With 64-bit time on a 32-bit processor, Rust's standard library and parking_lot (under sled) hand their 64-bit
// timespec to the old futex call, which reads two 32-bit words: the seconds and their upper half, which is zero.
// Every wait then loses its fraction of a second and comes back early, and callers spin until their time is up.
// All these times are relative or monotonic, so they fit the old structure; kernels before 5.1 have no other call.
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>

#define SYS_FUTEX 240
#define FUTEX_WAIT 0
#define FUTEX_WAIT_BITSET 9
#define FUTEX_COMMAND 127

struct time64 { int64_t seconds; int32_t nanoseconds; int32_t padding; };
struct time32 { int32_t seconds; int32_t nanoseconds; };

static long kernel(long number, const long *a) {
  register long r7 __asm__("r7") = number;
  register long r0 __asm__("r0") = a[0];
  register long r1 __asm__("r1") = a[1];
  register long r2 __asm__("r2") = a[2];
  register long r3 __asm__("r3") = a[3];
  register long r4 __asm__("r4") = a[4];
  register long r5 __asm__("r5") = a[5];
  __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
  if ((unsigned long)r0 <= -4096UL) return r0;
  errno = -r0;
  return -1;
}

long syscall(long number, ...) {
  long a[6];
  va_list rest;
  va_start(rest, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
  va_end(rest);
  struct time32 narrow;
  int command = (int)a[1] & FUTEX_COMMAND;
  if (number == SYS_FUTEX && (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET) && a[3]) {
    const struct time64 *wide = (const struct time64 *)a[3];
    narrow.seconds = wide->seconds > INT32_MAX ? INT32_MAX : (int32_t)wide->seconds;
    narrow.nanoseconds = wide->nanoseconds;
    a[3] = (long)&narrow;
  }
  return kernel(number, a);
}
