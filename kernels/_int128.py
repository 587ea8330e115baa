"""128-bit two's complement integers as two int64 words `(high, low)`, for sums that outgrow 64 bits.

Every function wraps modulo 2^128, as int64 wraps modulo 2^64. The low word is the lower 64 bits read as signed.
"""

from __future__ import annotations

from kernels._op import jit

_LOWEST = -0x8000000000000000
_MASK32 = 0xFFFFFFFF


@jit
def add(a_high, a_low, b_high, b_low):
    """Return a + b."""
    low = a_low + b_low
    # Flipping the sign bit turns a signed comparison into an unsigned one: the sum wrapped where it is below a term.
    carry = 1 if (low ^ _LOWEST) < (a_low ^ _LOWEST) else 0
    return a_high + b_high + carry, low


@jit
def multiply(a, b):
    """Return the full product of two int64 (Warren, Hacker's Delight, section 8-2: schoolbook on 32-bit halves)."""
    a1, a0 = a >> 32, a & _MASK32
    b1, b0 = b >> 32, b & _MASK32
    low = a0 * b0
    middle = a1 * b0 + ((low >> 32) & _MASK32)
    other = a0 * b1 + (middle & _MASK32)
    return a1 * b1 + (middle >> 32) + (other >> 32), a * b


@jit
def scale(a_high, a_low, b):
    """Return the 128-bit a times the int64 b."""
    high, low = multiply(a_low, b)
    # multiply reads the low word as signed: 2^64 too little where its top bit is set.
    return high + a_high * b + (b if a_low < 0 else 0), low
