"""The correlation of one scan, from its counts to its product; the science is in `kernels`.

In the order of the work: `selection` of frames, `tiles` of C2 that are wanted, `memory` that this takes and the parts
that a scan is split into; `layout` of the pixels, `gathering` them out of frames, `pixels` from wherever they are
stored; `q_bin` correlates those of one, `task` goes through all of a task, `product` is what is written.
"""
