"""YAML as documents need it: texts, numbers, lists and objects; times stay texts, and odd tags are told."""

from typing import Any

from ruamel.yaml.constructor import ConstructorError, SafeConstructor


class PlainConstructor(SafeConstructor):
    """Constructs what JSON has. In Kubernetes' documents times are strings."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """The value of a node; ConstructorError where its tag does not fit what it says."""
        try:
            return super().construct_object(node, deep=deep)
        except (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError):
            said = f"{getattr(node, 'value', '')!r:.40} cannot be read as {node.tag}"
            raise ConstructorError(None, None, said, node.start_mark) from None


PlainConstructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)
