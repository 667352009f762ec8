"""How Sphinx builds these pages: ``sphinx-build -W -n -b html docs docs/_build/html``."""

from importlib.metadata import version as installed_version

from pallets_sphinx_themes import ProjectLink

project = "flask-serverside"
copyright = "the flask-serverside contributors"
release = installed_version("flask-serverside")
version = ".".join(release.split(".")[:2])

extensions = ["myst_parser", "sphinx.ext.autodoc", "pallets_sphinx_themes"]
myst_enable_extensions = ["deflist"]
exclude_patterns = ["_build"]
default_role = "code"
root_doc = "index"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_use_unqualified_type_names = True

# There is no inventory to look these up in: the build needs no network.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|datetime|typing|time|uuid)\b.*"),
    (r"py:.*", r"(flask|werkzeug|sqlalchemy|sa|pymongo|pytest)\..*|Flask|Namespace"),
    (r"py:class", r"flask_serverside\..*\.T"),
    (r"py:.*", r"(str|bytes|int|float|bool|dict|list|tuple|None|type|object|Exception)"),
]

html_theme = "flask"
html_title = f"flask-serverside {release}"
html_context = {
    "project_links": [
        ProjectLink("PyPI", "https://pypi.org/project/flask-serverside/"),
        ProjectLink("Documentation", "https://flask-serverside.readthedocs.io/"),
    ]
}
html_sidebars = {
    "index": ["project.html", "localtoc.html", "searchbox.html"],
    "**": ["localtoc.html", "relations.html", "searchbox.html"],
}
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["figures.css"]


def find_in_package(app, env, node, contnode):
    """The package's docstrings name its errors without saying where they are."""
    if node.get("refdomain") != "py":
        return None
    python, name = env.domains["py"], f"flask_serverside.{node['reftarget']}"
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)


def setup(app):
    app.connect("missing-reference", find_in_package)
