"""Files to documents; what cannot be read is told with its line."""

from isthmus.api.documents import read_documents


def test_documents_keep_their_lines() -> None:
    text = "# head\nkind: A\n---\n---   # nothing in between\nkind: B\n...\n---\n\nkind: C\n"
    documents, unreadable = read_documents(text, "f.yaml")
    assert unreadable == []
    assert [(document.data["kind"], document.place) for document in documents] == [
        ("A", "f.yaml:1"),
        ("B", "f.yaml:4"),
        ("C", "f.yaml:7"),
    ]


def test_a_bad_document_hides_no_other() -> None:
    text = "kind: A\n---\na: [1\n---\nkind: B\nspec:\n  x: 1\n  x: 2\n---\njust text\n---\nkind: C\n"
    documents, unreadable = read_documents(text, "f.yaml")
    assert [document.data["kind"] for document in documents] == ["A", "C"]
    told = [str(place) for place in unreadable]
    assert told[0].startswith("f.yaml:3: not YAML: while parsing a flow sequence")
    assert told[1] == "f.yaml:8: x is given twice in the same object: keep one of them"
    assert told[2] == "f.yaml:9: should be an object with apiVersion and kind, is 'just text'"
    assert len(told) == 3


def test_yaml_means_what_json_can_say() -> None:
    text = "a: yes\nb: 2020-01-01T00:00:00Z\n80: {mode: on}\ntrue: 1.5\n"
    documents, unreadable = read_documents(text, "f")
    assert unreadable == []
    assert documents[0].data == {"a": "yes", "b": "2020-01-01T00:00:00Z", "80": {"mode": "on"}, "true": 1.5}


def test_what_json_cannot_say_is_refused() -> None:
    for text in ("a: !!binary aGk=", "a: !!set {x}", "? [1]\n: 2", "a: !custom 1", "a: *nothing", "a: \x07"):
        documents, unreadable = read_documents(text, "f")
        assert documents == []
        assert len(unreadable) == 1, text


def test_a_list_counts_as_its_items() -> None:
    documents, _ = read_documents(
        '{"apiVersion": "v1", "kind": "List", "items": [{"kind": "A"}, {"kind": "B"}]}', "f"
    )
    assert [document.data["kind"] for document in documents] == ["A", "B"]


def test_empty_files_and_directives() -> None:
    assert read_documents("", "f") == ([], [])
    assert read_documents("\ufeff# only a comment\n---\n", "f") == ([], [])
    documents, unreadable = read_documents("%YAML 1.2\n---\nkind: A\n", "f")
    assert (len(documents), unreadable) == (1, [])


def test_a_marker_line_may_hold_the_document() -> None:
    documents, _ = read_documents("--- {kind: A}\n--- {kind: B}\n", "f")
    assert [(document.data["kind"], document.line) for document in documents] == [("A", 1), ("B", 2)]


def test_a_text_of_several_lines_keeps_its_end() -> None:
    text = "kind: A\nx: |\n  a\n---\nkind: B\nx: |\n  b\n"
    assert [document.data["x"] for document in read_documents(text, "f")[0]] == ["a\n", "b\n"]
    assert [document.data["x"] for document in read_documents(text.rstrip(), "f")[0]] == ["a\n", "b"]


def test_a_text_keeps_its_odd_line_breaks() -> None:
    documents, _ = read_documents('x: "a\u2028b\x85c"\n---\n{"x": "a\u2028b"}\n', "f")
    assert documents[1].data == {"x": "a\u2028b"}
    assert len(documents) == 2
