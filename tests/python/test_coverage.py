"""No export without a test: each function of the header is called in cpp_tests/c, and this module's prototypes fit it."""

import re
import subprocess
import unittest

import khonsu_ctypes as khonsu

HEADER = khonsu.REPOSITORY / "include" / "khonsu.h"


def declared():
    """Name -> number of parameters of each function that the header declares."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", HEADER.read_text(), flags=re.DOTALL)
    functions = {}
    for name, parameters in re.findall(r"\b(khonsu_\w+)\s*\(([^()]*)\)\s*;", text):
        functions[name] = 0 if parameters.strip() in ("", "void") else parameters.count(",") + 1
    return functions


class Coverage(unittest.TestCase):
    def test_each_function_is_called_by_the_c_tests(self):
        sources = list((khonsu.REPOSITORY / "cpp_tests" / "c").glob("*_test.c"))
        text = "\n".join(source.read_text() for source in sources)
        called = set(re.findall(r"\b(khonsu_\w+)\s*\(", text))
        functions = declared()
        self.assertGreater(len(functions), 50)
        self.assertEqual([], sorted(set(functions) - called))

    def test_each_function_is_called_by_the_api_test(self):
        text = (khonsu.REPOSITORY / "cpp_tests" / "c" / "api_test.c").read_text()
        text += (khonsu.REPOSITORY / "cpp_tests" / "c" / "c_testing.h").read_text()
        called = set(re.findall(r"\b(khonsu_\w+)\s*\(", text))
        self.assertEqual([], sorted(set(declared()) - called))

    def test_prototypes(self):
        functions = declared()
        self.assertEqual(sorted(functions), sorted(khonsu.PROTOTYPES))
        for name, (_, arguments) in khonsu.PROTOTYPES.items():
            self.assertEqual(functions[name], len(arguments), name)

    def test_nothing_else_is_exported(self):
        output = subprocess.run(
            ["nm", "-D", "--defined-only", khonsu.LIBRARY_PATH], check=True, capture_output=True, text=True
        ).stdout
        exported = {line.split()[-1].split("@")[0] for line in output.splitlines()}
        self.assertEqual(sorted(declared()), sorted(exported))


if __name__ == "__main__":
    unittest.main()
