"""Parts by name: what `build` takes, what it refuses and how, and the modules of a package."""

import pytest

from registry import Registry, UserError, import_modules


class Base:
    def __init__(self, steps, *, size=1, pad=0):
        self.steps, self.size, self.pad = steps, size, pad


def parts() -> Registry:
    registry = Registry("form")

    @registry.register("plain")
    class Plain(Base):
        pass

    @registry.register("scaled")
    class Scaled(Base):
        def __init__(self, steps, factor=2, **kwargs):
            super().__init__(steps, **kwargs)
            self.factor = factor

    @registry.register("function")
    def build(steps, factor=3):
        return steps * factor

    return registry


def test_a_name_a_mapping_and_a_callable_are_built():
    forms = parts()
    assert forms.build("plain", 4).steps == 4
    scaled = forms.build({"name": "scaled", "factor": 5, "pad": 7}, 4)
    assert (scaled.steps, scaled.factor, scaled.size, scaled.pad) == (4, 5, 1, 7)
    assert forms.build("function", 4, factor=10) == 40
    assert forms.build(lambda steps: -steps, 4) == -4
    assert forms.names() == list(forms) == ["function", "plain", "scaled"] and forms.names("p*") == ["plain"]
    assert "plain" in forms and "other" not in forms


def test_arguments_are_those_of_the_class_and_the_named_ones_it_hands_on():
    forms = parts()
    assert forms.arguments("scaled", given=1) == ["factor", "size", "pad"]
    assert forms.arguments("plain", given=1) == ["size", "pad"]
    assert forms.arguments("function") == ["steps", "factor"]


@pytest.mark.parametrize(
    "spec, message",
    [
        ("plian", "unknown form 'plian', did you mean 'plain'. There are function, plain, scaled"),
        ({"name": "scaled", "facter": 1}, "form 'scaled' has no argument 'facter', did you mean 'factor'. It"),
        ({"name": "plain", "steps": 1}, "form 'plain' has no argument 'steps'.*It takes size, pad"),
        ({"factor": 1}, "give a name, or a mapping with the key 'name'"),
        (None, "form = None: give a name"),
        ({"name": ["plain"]}, r"unknown form \['plain'\]"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_spec_is_said_with_the_nearest_name(spec, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        parts().build(spec, 4)


def test_a_name_is_registered_once():
    forms = parts()
    with pytest.raises(ValueError, match="a form named 'plain' is registered already: .*Plain"):
        forms.register("plain")(Base)


def test_modules_of_a_package_are_imported_but_for_those_left_out(tmp_path, monkeypatch):
    for name in ("one", "two", "command"):
        (tmp_path / "shelf").mkdir(exist_ok=True)
        (tmp_path / "shelf" / f"{name}.py").write_text(f"import builtins\nbuiltins.shelf_seen.append({name!r})\n")
    (tmp_path / "shelf" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[str] = []
    monkeypatch.setattr("builtins.shelf_seen", seen, raising=False)
    import_modules("shelf", [str(tmp_path / "shelf")], but=["command"])
    assert sorted(seen) == ["one", "two"]
