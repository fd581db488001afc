import pytest

from fedhq.allocator import Method, Strategy, parse_menu, teaches

TEXTS = ["skip", "fp32", "fp32-u8", "ptq-w2a2", "ptq-w4a8-u2", "qat-w8a8-u32", "qat-w3a3-u5"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_strategy_prints_as_it_is_read(text):
    assert str(Strategy.parse(text)) == text


def test_default_wire_bits_are_left_out():
    assert str(Strategy.parse("qat-w2a2-u4")) == "qat-w2a2"
    assert str(Strategy.parse("fp32-u32")) == "fp32"


@pytest.mark.parametrize(
    "text", ["", "QAT-w2a2", "qat", "qat-w2", "ptq-w2a2-u", "skip-u4", "fp32-w4a4", "qat-w2a2 "]
)
def test_a_text_that_is_no_strategy_says_how_to_write_one(text):
    with pytest.raises(ValueError, match=r"a strategy must be .* Write for example 'qat-w2a2'"):
        Strategy.parse(text)


@pytest.mark.parametrize("text", ["qat-w1a2", "ptq-w9a2", "ptq-w2a0", "qat-w2a2-u1", "fp32-u16"])
def test_bits_outside_the_method_are_named(text):
    with pytest.raises(ValueError, match=r"must hold for .* but got weight_bits="):
        Strategy.parse(text)


@pytest.mark.parametrize("bits", [(2, 0, 0), (0, 0, 4)])
def test_skip_has_no_bits(bits):
    with pytest.raises(ValueError, match="= 0` must hold for skip"):
        Strategy(Method.SKIP, *bits)


def test_a_menu_without_strategies_is_refused():
    with pytest.raises(ValueError, match="must name at least one strategy"):
        parse_menu([])


def test_a_menu_with_doubles_names_them():
    with pytest.raises(ValueError, match=r"\['qat-w2a2'\] stand there more than once"):
        parse_menu(["qat-w2a2", "skip", "qat-w2a2-u4"])


def test_a_text_is_no_menu():
    with pytest.raises(ValueError, match="`strategies` must be a sequence"):
        parse_menu("qat-w2a2")


def test_only_qat_at_the_deployed_bits_teaches():
    menu = parse_menu(["skip", "fp32", "ptq-w2a2", "qat-w2a2", "qat-w2a2-u8", "qat-w2a4"])
    assert teaches(menu, Strategy.parse("ptq-w2a2")).tolist() == [0, 0, 0, 1, 1, 0]


def test_only_skip_is_skip():
    assert [s.is_skip for s in parse_menu(["skip", "fp32", "ptq-w2a2"])] == [True, False, False]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (("qat", 2, 2, 4), "`method` must be a Method, but got 'qat'"),
        ((Method.QAT, 2.0, 2, 4), "`weight_bits` must be an int, but got 2.0"),
        ((Method.SKIP, 0, 0, False), "`wire_bits` must be an int, but got False"),
    ],
)
def test_fields_of_other_types_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Strategy(*fields)
