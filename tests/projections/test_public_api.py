import projections


def test_the_public_names_are_sorted() -> None:
    """As the linter sorts them: constants, classes, functions."""
    assert projections.__all__ == sorted(projections.__all__, key=_place)


def _place(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_every_public_name_resolves() -> None:
    """Those of adapters too, which are imported on first use."""
    assert [name for name in projections.__all__ if getattr(projections, name, None) is None] == []
    assert len(set(projections.__all__)) == len(projections.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Lazy loading does not hide a typing mistake."""
    assert not hasattr(projections, "SqliteProjektionStore")


def test_every_error_has_the_base_of_the_package() -> None:
    """One `except` catches what the package raises."""
    errors = [getattr(projections, name) for name in projections.__all__ if name.endswith("Error")]
    assert len(errors) > 10
    assert all(issubclass(error, projections.ProjectionError) for error in errors)
