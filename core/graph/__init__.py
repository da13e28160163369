"""The workflow engine: reads workflows in every format, validates and runs them without ComfyUI.

It imports no torch and knows no concrete node; a registry (class name to `NodeSpec`) is passed in.
"""

from .api_format import graph_from_api, graph_to_api
from .context import Call, Event, Interrupted, current_call
from .execute import Executor
from .load import load_workflow, parse_workflow
from .name_codes import NodeValues, fill_in_prefixes
from .overrides import apply_overrides, apply_seed
from .run_result import NodeError, RunResult
from .schema import (
    Blocked,
    Graph,
    InputSpec,
    Link,
    Node,
    NodeResult,
    NodeSpec,
    OutputSpec,
    Registry,
    WorkflowError,
)
from .ui_format import ui_to_api
from .ui_write import to_ui
from .validate import InvalidWorkflow, Problem, validate

__all__ = [
    "Blocked",
    "Call",
    "Event",
    "Executor",
    "Graph",
    "InputSpec",
    "Interrupted",
    "InvalidWorkflow",
    "Link",
    "Node",
    "NodeError",
    "NodeResult",
    "NodeSpec",
    "NodeValues",
    "OutputSpec",
    "Problem",
    "Registry",
    "RunResult",
    "WorkflowError",
    "apply_overrides",
    "apply_seed",
    "current_call",
    "fill_in_prefixes",
    "graph_from_api",
    "graph_to_api",
    "load_workflow",
    "parse_workflow",
    "to_ui",
    "ui_to_api",
    "validate",
]
