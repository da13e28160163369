"""Chunks made by the workers of a Ray cluster (`videoldm run --ray`).

    cluster     joins or starts a cluster, and starts a worker for each of its devices
    pool        schedules chunks on workers; implements core's `Workers`
    worker      makes chunks, in its own process
    packing     serialises the function that makes a chunk
    weights     serialises modules, which are sent separately and cached by the workers
    prefetch    begins chunks of later stages and workflows
    turns       threads that begin chunks ahead of time, one of which runs at a time

The driver runs the workflow as usual. When a task requests a chunk, `core.tasks.chunk_store.Run`
looks for it in the store, or has a worker make it and write it there. So finished chunks survive
the death of any process.
"""
