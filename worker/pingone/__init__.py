"""How PingOne's API talks: requests, answers, and the errors that they mean. No other package knows a status code or a
media type. Begin with `client`, the calls that the rest of the program makes; `errors` names how they end."""
