"""Power sums of integers about one origin from those about another, by the binomial theorem, modulo 2^128."""

from __future__ import annotations

from kernels._int128 import add, scale
from kernels._op import jit


@jit
def add_scaled(high, low, word_high, word_low, factor):
    """Return (high, low) + word x factor."""
    more_high, more_low = scale(word_high, word_low, factor)
    return add(high, low, more_high, more_low)


@jit
def recentred(n, s1, s2h, s2l, s3h, s3l, s4h, s4l, c):
    """Return (s1, s2_hi, s2_lo, ..., s4_lo) of d + c, given n and those of d."""
    s1h, nh = s1 >> 63, 0
    # Horner in c: t2 = s2 + c (2 s1 + c n), and so on; each step is one 128-bit multiply and add.
    h, w = add_scaled(*scale(s1h, s1, 2), nh, n, c)
    t2h, t2l = add_scaled(s2h, s2l, h, w, c)
    h, w = add_scaled(*scale(s1h, s1, 3), nh, n, c)
    h, w = add_scaled(*scale(s2h, s2l, 3), h, w, c)
    t3h, t3l = add_scaled(s3h, s3l, h, w, c)
    h, w = add_scaled(*scale(s1h, s1, 4), nh, n, c)
    h, w = add_scaled(*scale(s2h, s2l, 6), h, w, c)
    h, w = add_scaled(*scale(s3h, s3l, 4), h, w, c)
    t4h, t4l = add_scaled(s4h, s4l, h, w, c)
    return s1 + n * c, t2h, t2l, t3h, t3l, t4h, t4l


@jit
def narrow_recentred(n, s1, s2, s3, s4, c):
    """Return what recentred does where all the results fit 64 bits: products wrap, and the wraps cancel."""
    t2 = s2 + c * (2 * s1 + c * n)
    t3 = s3 + c * (3 * s2 + c * (3 * s1 + c * n))
    t4 = s4 + c * (4 * s3 + c * (6 * s2 + c * (4 * s1 + c * n)))
    return s1 + n * c, t2 >> 63, t2, t3 >> 63, t3, t4 >> 63, t4
