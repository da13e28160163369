"""Chunks made by the workers of a Ray cluster (`videoldm run --ray`).

    cluster     joins or starts a cluster, and starts a worker for each of its devices
    pool        hands chunks to workers; core's `Workers`
    worker      makes them, in a process of its own
    packing     what a chunk is made with, as bytes
    weights     modules, which travel apart and stay with the workers
    turns       the threads in which tasks begin chunks ahead, one of which runs at a time

The driver runs the workflow as ever. Where a task asks for a chunk, `core.tasks.chunk_store.Run`
looks for it in the store and has it made by a worker, which writes it into the store. What is
finished is therefore never lost with a process, be it a worker's or the driver's.
"""
