#!/usr/bin/python3
"""Groups of TPBs: made, listed, filled, destroyed; and how long they live."""

import unittest

import fake
from fake import Krtd, Reason, model, request, rt
from grpc import StatusCode


class Client(fake.Client):
    def create(self, tpbs, name="", **fields):
        call = self.method("CreateGroup", rt.CreateGroupResponse)
        return call(rt.CreateGroupRequest(tpbs=tpbs, name=name, **fields), timeout=fake.SECONDS).group

    def destroy(self, name="", id=0):
        return self.method("DestroyGroup", rt.DestroyGroupResponse)(rt.DestroyGroupRequest(name=name, id=id),
                                                                    timeout=fake.SECONDS)

    def groups(self):
        return self.method("ListGroups", rt.ListGroupsResponse)(rt.ListGroupsRequest(), timeout=fake.SECONDS).groups


def places(group):
    return [(p.device, p.tpb) for p in group.tpbs]


class Groups(fake.TestCase):
    def test_made_listed_destroyed(self):
        with Krtd() as krtd, Client(krtd.socket) as client:
            a = client.create(2, "a")
            b = client.create(1)
            self.assertEqual((a.id, a.name, a.persistent, list(a.models)), (1, "a", True, []))
            self.assertEqual((len(a.tpbs), len(b.tpbs)), (2, 1))
            self.assertFalse(set(places(a)) & set(places(b)))
            self.assertTrue(b.name)
            self.assertEqual([g.name for g in client.groups()], ["a", b.name])
            tpbs = client.devices().devices[0].tpb
            self.assertEqual(sorted(t.group for t in tpbs), [0, 1, 1, 2])
            self.fails(StatusCode.ALREADY_EXISTS, client.create, 1, "a", says="there is a group 'a' already")
            detail = self.fails(StatusCode.RESOURCE_EXHAUSTED, client.create, 2, "c")
            client.destroy(id=b.id)
            client.create(2, "c")
            client.destroy("a")
            self.assertEqual([g.name for g in client.groups()], ["c"])
            for wrong, says in ((dict(), "by its id or by its name"), (dict(name="c", id=3), "by its id or by its name")):
                self.fails(StatusCode.INVALID_ARGUMENT, lambda: client.destroy(**wrong), says=says)
            self.fails(StatusCode.NOT_FOUND, client.destroy, "a", says="no group 'a'; there are: c")
            self.fails(StatusCode.NOT_FOUND, lambda: client.destroy(id=77), says="no group number 77")

    def test_what_cannot_be_made(self):
        with Krtd() as krtd, Client(krtd.socket) as client:
            for tpbs in (0, 65, 0xffffffff):
                self.fails(StatusCode.INVALID_ARGUMENT, client.create, tpbs, says="not 1 to 64")
            self.fails(StatusCode.RESOURCE_EXHAUSTED, client.create, 5)
            self.fails(StatusCode.NOT_FOUND, lambda: client.create(1, devices=[3]), says="has no device 3")
            for name in ("a b", "x" * 65, "\n"):
                self.fails(StatusCode.INVALID_ARGUMENT, client.create, 1, name, says="group name")
            client.create(1, "x" * 64)
            self.assertEqual(len(client.groups()), 1)

    def test_models_in_groups(self):
        with Krtd() as krtd, Client(krtd.socket) as client:
            g = client.create(2, "g")
            m = client.load(model("m", dram=10), group="g")
            n = client.load(model("n", tpbs=2, dram=20), group="g")
            o = client.load(model("o"))
            self.assertEqual((m.group, n.group, o.group), ("g", "g", ""))
            self.assertEqual(sorted((p.device, p.tpb) for p in n.tpbs), places(g))
            self.assertIn((m.tpbs[0].device, m.tpbs[0].tpb), places(g))
            self.assertNotIn((o.tpbs[0].device, o.tpbs[0].tpb), places(g))
            self.assertEqual(list(client.groups()[0].models), ["m", "n"])
            device = client.devices().devices[0]
            self.assertEqual({u.model: (u.dram_bytes, len(u.tpbs)) for u in device.model_use},
                             {"m": (10, 1), "n": (20, 2), "o": (0, 1)})
            on = {t.index: set(t.models) for t in device.tpb}
            self.assertEqual(on[m.tpbs[0].tpb], {"m", "n"})
            self.assertEqual(on[o.tpbs[0].tpb], {"o"})
            self.fails(StatusCode.NOT_FOUND, lambda: client.load(model("p"), group="h"), says="no group 'h'; there are: g")
            self.fails(StatusCode.FAILED_PRECONDITION, lambda: client.load(model("p", tpbs=3), group="g"),
                       reason=Reason.NO_TPBS)
            client.unload("m")
            client.destroy("g")
            self.assertEqual([m.name for m in client.models()], ["o"])
            self.assertEqual(client.devices().devices[0].dram_used_bytes, 0)

    def test_what_runs_in_a_destroyed_group_is_answered(self):
        with Krtd() as krtd, Client(krtd.socket) as client:
            client.create(1, "g")
            client.load(model("m", sleep_ms=300), group="g")
            running = client.infer_later(request())
            fake.wait_until(lambda: client.model("m").executions == 1, "it runs")
            queued = client.infer_later(request())
            fake.wait_until(lambda: client.model("m").queued == 1, "one waits")
            client.destroy("g")
            self.assertEqual(running.result().outputs[0].data, fake.tensor().data)
            self.assertEqual(queued.code(), StatusCode.ABORTED)
            self.assertEqual(len(client.models()), 0)
            client.create(4, "g")

    def test_a_session_takes_its_groups_along(self):
        with Krtd() as krtd, Client(krtd.socket) as client:
            stream = client.method("Session", rt.SessionEvent, "stream_stream")
            import queue
            feed = queue.Queue()
            feed.put(rt.SessionRequest(client="test"))
            events = stream(iter(feed.get, None), timeout=fake.SECONDS)
            token = next(events).opened.token
            create = client.method("CreateGroup", rt.CreateGroupResponse)
            named = (("kaena-session", token),)
            mine = create(rt.CreateGroupRequest(tpbs=1, name="mine"), metadata=named, timeout=fake.SECONDS).group
            kept = create(rt.CreateGroupRequest(tpbs=1, name="kept", persistent=True), metadata=named,
                          timeout=fake.SECONDS).group
            self.assertEqual((mine.persistent, kept.persistent), (False, True))
            client.load(model("m"), group="mine")
            feed.put(None)
            for _ in events:
                pass
            fake.wait_until(lambda: [g.name for g in client.groups()] == ["kept"], "the session's group goes")
            fake.wait_until(lambda: not client.models(), "and the model in it")
            client.create(3, "others")


class Sizes(fake.TestCase):
    def test_groups_of_the_environment(self):
        with Krtd(env={"KAENA_TPB_GROUP_SIZES": "1, 1,2"}.items()) as krtd, Client(krtd.socket) as client:
            self.assertEqual([(g.name, len(g.tpbs), g.persistent) for g in client.groups()],
                             [("g0", 1, True), ("g1", 1, True), ("g2", 2, True)])
            self.assertEqual(client.load(model(tpbs=2), group="g2").group, "g2")

    def test_krtd_does_not_start_with_nonsense(self):
        for sizes, says in (("1,x", "'x' is not a number"), ("1,,2", "'' is not a number"), ("-1", "'-1' is not a number"),
                            ("0", "1 to 64 TPBs"), ("99999999999999999999", "1 to 64 TPBs"),
                            ("2,3", "more than there are"), ("1;2", "is not a number"), ("2 3", "is not a number")):
            with self.subTest(sizes):
                krtd = Krtd(env={"KAENA_TPB_GROUP_SIZES": sizes}.items(), wait=False)
                self.assertEqual(krtd.wait(), 1)
                for text in (f"KAENA_TPB_GROUP_SIZES='{sizes}'", says, "this daemon has 4 TPBs on 1 device"):
                    self.assertIn(text, krtd.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
