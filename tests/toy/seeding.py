"""Seeding, thousands of times."""

import torch

# torch.manual_seed also writes down the stack for each kind of device that is not there, which takes milliseconds
seed = torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed
