"""The language: model functions whose sites are phrases that a language model fills in.

Seven rooms, each resting on those before it: ``noise``, ``scoring``, ``language``, ``handlers``, ``analysis``,
``tables``, ``worlds``.
"""

import sys

from .former import Former

# What was imported from where it stood before the rooms is found, and said to have moved.
sys.meta_path.append(Former())
