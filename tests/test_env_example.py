"""`.env.example` lists every setting there is."""

from infra.env_example import TARGET, render


def test_the_example_lists_every_setting_with_its_default():
    assert TARGET.read_text(encoding="utf-8") == render(), "run `python -m infra.env_example` and commit"
