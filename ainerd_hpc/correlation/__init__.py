"""The correlation of one scan, from its counts to its product; the science is in `kernels`.

In the order of the work: `selection` of frames, `tiles` of C2 that are wanted, `memory` that this takes and the parts
that a scan is split into; the files that are `inputs` of the `corrections`; `layout` of the pixels, `gathering` them
out of frames, `pixels` from wherever they are stored; the `survey` of a scan as a whole and its `bad_frames`; `q_bin`
correlates the pixels of one, `task` goes through all of a task, `product` is what is written.
"""
