"""`ProcessPoolExecutor` with asyncio: its futures are those of `concurrent.futures`, so everything knows them."""

import asyncio
import hashlib

from procpool import ProcessPoolExecutor


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


async def main() -> None:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2) as executor:
        calls = [loop.run_in_executor(executor, digest, number) for number in range(5)]
        for number, text in enumerate(await asyncio.gather(*calls)):
            print(number, text)


if __name__ == "__main__":
    asyncio.run(main())
