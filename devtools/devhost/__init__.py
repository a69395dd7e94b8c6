"""A local Azure Functions host for one Python app: `python -m devtools.devhost`.

The rule: the app runs on the real `azure-functions-runtime`, the library that runs it in Azure on Python 3.13; this
package stands in for the host process around it, and for nothing else.

    __main__.py      the command line
    supervisor.py    the parent process: holds the port, starts and restarts the worker process
    worker.py        the worker process: the runtime, the web server and the triggers in one event loop
    runtime.py       the one module that touches the runtime's internals
    invocations.py   runs of functions: ids, retries, functionTimeout
    front.py         HTTP: what the real host does to a request before and after the function
    routes.py        route templates
    timers.py, queues.py, event_hubs.py   the other triggers
    config.py        host.json and the app settings
    client.py        `DevHost`, for tests
"""
