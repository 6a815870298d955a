"""Which kubectl of those that Debian has is the one to test with."""

import pytest
from kubectl_binary import Unavailable, newest

OFFERED = """
   kubectl | 1.37.0+ds-1 | http://deb.example/debian sid/main amd64 Packages
   kubectl | 1.36.12+ds-1 | http://deb.example/debian sid/main amd64 Packages
   kubectl | 1.36.4+ds-1 | http://deb.example/debian testing/main amd64 Packages
"""


def test_the_newest_patch_of_a_minor_version() -> None:
    assert newest(OFFERED, "1.36") == "1.36.12+ds-1"


def test_a_version_that_is_gone_is_named() -> None:
    with pytest.raises(Unavailable, match=r"no kubectl 1\.32 in trixie, .* only 1\.37\.0\+ds-1, 1\.36\.12"):
        newest(OFFERED, "1.32")
