// SPDX-License-Identifier: Apache-2.0
// What TFLM takes of a system: no messages, no heap, and what Debian's libgcc for the lx106
// lacks. Floating-point numbers are finite, and normal or zero, as scales of a model are; they are computed at start alone.
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

// m * 2^e, with bit 62 of m set, or zero.
struct Real {
    bool negative;
    int e;
    uint64_t m;
};

Real normal(bool negative, int e, uint64_t m) {
    for (; m >> 63 != 0; ++e) {
        m = m >> 1 | (m & 1);
    }
    for (; m != 0 && m >> 62 == 0; --e) {
        m <<= 1;
    }
    return {negative, e, m};
}

// Bits of the mantissa with the hidden one, and the bias of the exponent.
template <typename Bits, typename Number, int kBits, int kBias> struct Format {
    static Real read(Number number) {
        Bits bits;
        memcpy(&bits, &number, sizeof bits);
        const int exponent = static_cast<int>(bits >> (kBits - 1)) & (2 * kBias + 1);
        const Bits hidden = Bits{1} << (kBits - 1);
        const uint64_t m = exponent == 0 ? 0 : ((bits & (hidden - 1)) | hidden);
        return normal(bits >> (sizeof bits * 8 - 1) != 0, exponent - kBias - kBits + 1, m);
    }

    static Number write(const Real &real) {
        constexpr int kDrop = 63 - kBits;
        uint64_t m = real.m >> kDrop;
        const uint64_t rest = real.m & ((uint64_t{1} << kDrop) - 1), half = uint64_t{1} << (kDrop - 1);
        m += rest > half || (rest == half && (m & 1) != 0);
        const int exponent = real.e + kDrop + kBias + kBits - 1;
        Bits bits = real.m == 0 ? 0 : static_cast<Bits>(m) + (static_cast<Bits>(exponent - 1) << (kBits - 1));
        bits |= static_cast<Bits>(real.negative) << (sizeof bits * 8 - 1);
        Number number;
        memcpy(&number, &bits, sizeof number);
        return number;
    }
};

using Single = Format<uint32_t, float, 24, 127>;
using Double = Format<uint64_t, double, 53, 1023>;

Real sum(Real a, Real b) {
    if (a.m == 0 || b.m == 0) {
        return a.m == 0 ? b : a;
    }
    if (a.e < b.e || (a.e == b.e && a.m < b.m)) {
        const Real other = a;
        a = b;
        b = other;
    }
    const int shift = a.e - b.e;
    b.m = shift > 62 ? 1 : b.m >> shift | ((b.m & ((uint64_t{1} << shift) - 1)) != 0);
    return normal(a.negative, a.e, a.negative == b.negative ? a.m + b.m : a.m - b.m);
}

// Mantissas of at most 53 bits, from bit 62 down: what is shifted out is zero.
Real product(const Real &a, const Real &b) {
    const uint64_t x = a.m >> 9, y = b.m >> 9;
    const uint64_t x1 = x >> 27, x0 = x & 0x7FFFFFF, y1 = y >> 27, y0 = y & 0x7FFFFFF;
    const uint64_t low = x0 * y0, middle = x1 * y0 + x0 * y1 + (low >> 27);
    const uint64_t m = (x1 * y1 << 8) + (middle >> 19);
    const bool rest = ((middle & 0x7FFFF) | (low & 0x7FFFFFF)) != 0;
    return normal(a.negative != b.negative, a.e + b.e + 18 + 46, m | rest);
}

Real quotient(const Real &a, const Real &b) {
    uint64_t rest = a.m, m = 0;
    for (int bit = 0; bit < 62; ++bit) {
        m <<= 1;
        if (rest >= b.m) {
            rest -= b.m;
            m |= 1;
        }
        rest <<= 1;
    }
    return normal(a.negative != b.negative, a.e - b.e - 61, m | (rest != 0));
}

Real minus(Real a) {
    a.negative = !a.negative;
    return a;
}

} // namespace

extern "C" {
float __addsf3(float a, float b) {
    return Single::write(sum(Single::read(a), Single::read(b)));
}
float __subsf3(float a, float b) {
    return Single::write(sum(Single::read(a), minus(Single::read(b))));
}
float __mulsf3(float a, float b) {
    return Single::write(product(Single::read(a), Single::read(b)));
}
double __adddf3(double a, double b) {
    return Double::write(sum(Double::read(a), Double::read(b)));
}
double __subdf3(double a, double b) {
    return Double::write(sum(Double::read(a), minus(Double::read(b))));
}
double __muldf3(double a, double b) {
    return Double::write(product(Double::read(a), Double::read(b)));
}
double __divdf3(double a, double b) {
    return Double::write(quotient(Double::read(a), Double::read(b)));
}
double __extendsfdf2(float a) {
    return Double::write(Single::read(a));
}
float __truncdfsf2(double a) {
    return Single::write(Double::read(a));
}
float __floatsisf(int32_t a) {
    return Single::write(normal(a < 0, 0, a < 0 ? -int64_t{a} : a));
}
double __floatsidf(int32_t a) {
    return Double::write(normal(a < 0, 0, a < 0 ? -int64_t{a} : a));
}

uint64_t __muldi3(uint64_t, uint64_t);
uint64_t __umulsidi3(uint32_t a, uint32_t b) {
    return __muldi3(a, b);
}
uint64_t __udivmoddi4(uint64_t, uint64_t, uint64_t *);
int64_t __divmoddi4(int64_t, int64_t, int64_t *);
uint64_t __udivdi3(uint64_t a, uint64_t b) {
    return __udivmoddi4(a, b, nullptr);
}
int64_t __divdi3(int64_t a, int64_t b) {
    int64_t rest;
    return __divmoddi4(a, b, &rest);
}
uint64_t __umoddi3(uint64_t a, uint64_t b) {
    uint64_t rest;
    __udivmoddi4(a, b, &rest);
    return rest;
}

uint32_t __udivsi3(uint32_t a, uint32_t b) {
    uint32_t quotient = 0, bit = 1;
    for (; b < a && b >> 31 == 0; b <<= 1) {
        bit <<= 1;
    }
    for (; bit != 0; bit >>= 1, b >>= 1) {
        if (a >= b) {
            a -= b;
            quotient |= bit;
        }
    }
    return quotient;
}
uint32_t __umodsi3(uint32_t a, uint32_t b) {
    return a - __udivsi3(a, b) * b;
}
int32_t __divsi3(int32_t a, int32_t b) {
    const uint32_t quotient = __udivsi3(a < 0 ? 0u - a : a, b < 0 ? 0u - b : b);
    return (a < 0) != (b < 0) ? -quotient : quotient;
}

void host_log(char, const char *, const char *, ...) {
}
void DebugLog(const char *, va_list) {
}
int DebugVsnprintf(char *, size_t, const char *, va_list) {
    return 0;
}
[[noreturn]] void abort() {
    for (;;) {
    }
}
void *stderr;
}
