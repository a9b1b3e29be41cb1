"""The shapes in which a site may come, for plates of 4 rows and 3 columns."""

import torch

MASK = torch.tensor([True, False, True])
LAYOUTS = {
    "plain": lambda fn: fn.expand([4, 3]),
    "to_event": lambda fn: fn.expand([4, 3, 2]).to_event(1),
    "mask": lambda fn: fn.expand([4, 3]).mask(MASK),
    "mask of coordinates": lambda fn: fn.expand([4, 3, 3]).mask(MASK).to_event(1),
    "expanded events": lambda fn: fn.expand([3]).to_event(1).expand([4, 3]),
    "expanded mask": lambda fn: fn.expand([3]).mask(MASK).expand([4, 3]),
    "broadcast by the plates": lambda fn: fn,
}
