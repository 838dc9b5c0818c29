"""`python -m asyncio_thread_loop stubgen`: types of what `to_sync` makes, written as files.

Targets come in, files come out, in four steps:

1. `targets` imports what was asked for, and finds the classes and functions in it.
2. `reading` makes the model of each file (`model`). A face is read by `classes` with `functions`, `attributes` and
   `dynamic`. Their types are read in a `scope`, which resolves names through `sources`, and are turned to the
   synchronous side by `facing`. A type that names an async class asks for the face of that class, so that the faces
   needed are found on the way: those of the targets, of their bases, and of what their methods return.
3. `naming` gives everything the name that it has in the file.
4. `rendering` writes the text, as a stub or as a module. `command` puts it where it belongs.

Types are expressions of `ast` whose names are references to definitions (`expressions`), from where they are read until
they are named. So what an annotation says stays what it says: aliases, overloads, type variables, `Unpack`.

The class at run time decides what it is, the source decides how it is typed. The rules by which something gets a face,
or is awaited, are `to_sync`'s own (`_faces/kinds`); a class that only type checkers know is judged by its source. Where
a class has members at run time that its source doesn't show (`dynamic`), the function behind each is looked up in the
source, or its parameters are taken by name. What has no known type is `Incomplete`, and reported.

A generated module has its classes under `TYPE_CHECKING` only: at run time it asks `to_sync` for them, which is the one
place where faces are made.

Nothing here is imported by the rest of the package.
"""
