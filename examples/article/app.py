"""A asks, B answers, A acknowledges: request, response, acknowledgment.

Run it by `posthouse dev app.py`; or, as processes that you can kill, by `posthouse up app.py`.
"""

from msgspec import Struct

from posthouse import Context, Reply, Service


class Question(Struct):
    text: str


class Answer(Struct):
    text: str


class Asked(Struct):
    id: str


a = Service("a", schema=["CREATE TABLE answers (id TEXT, question TEXT, answer TEXT)"])
b = Service("b", schema=["CREATE TABLE answered (id TEXT, answer TEXT)"])


@b.handler
async def answer(question: Question, ctx: Context) -> Answer:
    """1. The request is here. What is written and what is answered is kept together."""
    said = Answer(f"{len(question.text.split())} words")
    db = await ctx.transaction()
    await db.execute("INSERT INTO answered VALUES (?, ?)", (ctx.id, said.text))
    print("b answers:", said.text)
    return said


@a.handler
async def ask(question: Question, ctx: Context) -> Asked:
    """Ask, and go on: nobody waits here."""
    return Asked(await ctx.send(answer, question))


@a.on_reply(answer)
async def hear(reply: Reply[Question, Answer], ctx: Context) -> None:
    """2. The response is here. When this has ended well, and only then, the acknowledgment leaves."""
    said = reply.get()
    db = await ctx.transaction()
    await db.execute("INSERT INTO answers VALUES (?, ?, ?)", (reply.id, reply.request.text, said.text))
    print("a has it in writing:", said.text)


@b.on_ack(answer)
async def done(reply: Reply[Question, Answer]) -> None:
    """3. The acknowledgment is here: A has the answer, so B may forget it."""
    print("b knows that a has it:", reply.get().text)
