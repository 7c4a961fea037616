"""The correlation of one scan, from its counts to its product; the science is in `kernels`.

In the order of the work: `selection` of frames, `tiles` of C2 that are wanted, `memory` that this takes and the parts
that a scan is split into; the files that are `inputs` of the `corrections`; in `counts`, the `layout` of the pixels,
`gathering` them out of frames, `pixels` from wherever they are stored, and the `survey` of a scan as a whole; its
`bad_frames`; `q_bin` correlates the pixels of one, `task` goes through all of a task, `product` is what is written.
`adopted` takes over two-time maps that others made, `windows` are the squares of C2 that become maps, and `compile`
calls the kernels once before workers need them.
"""
