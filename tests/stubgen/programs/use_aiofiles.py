from typing import assert_type

from faces.aiofiles_sync import open as open_file


def used_well() -> None:
    with open_file("file.txt", "w", encoding="utf-8") as file:
        assert_type(file.write("text"), int)
        file.flush()
    with open_file("file.txt") as file:
        assert_type(file.read(), str)
        assert_type(file.readlines(), list[str])
        for line in file:
            assert_type(line, str)
    with open_file("file.bin", "rb") as binary:
        assert_type(binary.read(), bytes)
    assert_type(open_file("file.txt").result().read(), str)


def used_wrongly() -> None:
    open_file("file.txt", "q")  # wrong: call-overload, reportCallIssue reportArgumentType
    with open_file("file.txt", "w") as file:
        file.write(b"text")  # wrong: arg-type, reportArgumentType
        file.put("text")  # wrong: attr-defined, reportAttributeAccessIssue


async def awaited() -> None:
    with open_file("file.txt") as file:
        await file.read()  # wrong: misc, reportGeneralTypeIssues
    async with open_file("file.txt"):  # wrong: attr-defined, reportGeneralTypeIssues
        pass
