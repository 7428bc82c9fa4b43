"""The users of the simulated environments, by id and by what else names them."""

from worker.simulator.users import Directory


def test_a_user_is_found_by_each_name_in_its_own_environment():
    directory = Directory()
    ada = directory.add("env", "1")
    directory.rename("env", ada, username="ada", email="ada@example.com", external_id="E-1")
    for term in [("id", "1"), ("username", "ada"), ("email", "ada@example.com"), ("externalId", "E-1")]:
        assert list(directory.find_named("env", term)) == [ada]
        assert list(directory.find_named("another", term)) == []
    assert directory.find("env", "1") is ada
    assert directory.find("another", "1") is None


def test_a_former_name_finds_nobody():
    directory = Directory()
    ada = directory.add("env", "1")
    assert list(directory.find_named("env", ("username", "1"))) == [ada]
    directory.rename("env", ada, username="ada", email=None, external_id=None)
    assert list(directory.find_named("env", ("username", "1"))) == []
    assert list(directory.find_named("env", ("email", "1@example.com"))) == [ada]


def test_two_users_may_share_an_address():
    directory = Directory()
    for user_id in ("1", "2"):
        directory.rename(
            "env", directory.add("env", user_id), username=None, email="same@example.com", external_id=None
        )
    assert [user.id for user in directory.find_named("env", ("email", "same@example.com"))] == ["1", "2"]
    assert [user.id for user in directory.users("env")] == ["1", "2"]
