"""How good a dataset is: what a person should see of it before a model learns it. Pure, over streams of rows.

`QualityCheck` watches the rows while they are read, and says at the end what it saw. Memory does not grow with the
file: exact duplicates are found by hashes in a table of fixed size, near duplicates and languages in a bounded sample.
"""

from spotune.data.quality.inspection import SAMPLE_CHARACTERS, QualityCheck

__all__ = ["SAMPLE_CHARACTERS", "QualityCheck"]
