"""How the kernels divide their work."""

from __future__ import annotations

#: Numbers of one array that a program works on at once; 4 for each of the threads of 4 warps.
_NUMBERS = 512
#: Most channels of a program; larger rows are divided.
_MAX_CHANNELS = 128
#: Numbers of the two-dimensional sums that a program keeps in registers.
_KEPT_NUMBERS = 2048


def power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least ``number``."""
    return 1 << max(number - 1, 0).bit_length()


def count_of(size: int, block: int) -> int:
    """Return how many blocks cover ``size``."""
    return -(-size // block)


def edge_blocks(channels: int) -> tuple[int, int]:
    """Return the edges and channels of one program."""
    wide = min(power_of_two(channels), _MAX_CHANNELS)
    return max(1, _NUMBERS // wide), wide


def sum_block(rows: int, channels: int) -> int:
    """Return the channels of a program that keeps ``rows`` of them."""
    return min(power_of_two(channels), max(16, _KEPT_NUMBERS // power_of_two(rows)))
