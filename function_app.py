"""The app that Azure Functions indexes.

Rule: importing this never fails and does no I/O, or every function would be gone.
"""

import azure.functions as func

from functions import budgets, calls, dashboard, exports, gateway, health, manage, recorder, rollup, usage

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)  # clients carry OpenAI's headers, not function keys
for _module in (gateway, calls, recorder, rollup, usage, budgets, exports, manage, health, dashboard):
    app.register_functions(_module.blueprint)
