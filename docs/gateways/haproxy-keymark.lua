-- Verifies the API key of a request with Keymark. In HAProxy's configuration:
--
--     http-request lua.keymark http://127.0.0.1:9001/v1/forward-auth
--
-- sets txn.keymark_status to 200 (and the identity headers), 401 (and txn.keymark_challenge) or 503. If the action
-- fails, it sets nothing, so let a request pass only for 200.

-- Longer than the time-outs of HAProxy's own listener: Lua's client would retry after a time-out of its own.
local TIMEOUT_MS = 7000
local IDENTITY = { "x-keymark-tenant-id", "x-keymark-system-id", "x-keymark-system-name", "x-keymark-key-mark" }
-- Only for a key that has an expiry, and a system that has an external id. The configuration removes what the client sent
-- under these names.
local OPTIONAL = { "x-keymark-key-expires-at", "x-keymark-external-id" }
local token = os.getenv("KEYMARK_VERIFIER_TOKEN")

-- Returns all values of a header, indexed from 1; HAProxy indexes them from 0.
local function values(headers, name)
    local found = {}
    local index = 0
    while headers[name] and headers[name][index] do
        found[index + 1] = headers[name][index]
        index = index + 1
    end
    return found
end

core.register_action("keymark", { "http-req" }, function(txn, url)
    local presented = txn.http:req_get_headers()
    local headers = {
        -- All values, because Keymark refuses a request with two keys.
        ["x-api-key"] = values(presented, "x-api-key"),
        ["authorization"] = values(presented, "authorization"),
        -- The client's address; Keymark trusts it if --trusted-proxies lists this proxy.
        ["x-forwarded-for"] = { tostring(txn.f:src()) },
    }
    if token then
        headers["x-keymark-verifier-token"] = { token }
    end

    local answer = core.httpclient():get { url = url, headers = headers, timeout = TIMEOUT_MS }
    local status = answer and answer.status
    if status == 200 then
        for _, name in ipairs(IDENTITY) do
            local value = values(answer.headers, name)[1]
            if not value then
                txn:set_var("txn.keymark_status", 503)
                return
            end
            txn.http:req_set_header(name, value)
        end
        for _, name in ipairs(OPTIONAL) do
            local value = values(answer.headers, name)[1]
            if value then
                txn.http:req_set_header(name, value)
            end
        end
        txn:set_var("txn.keymark_status", 200)
    elseif status == 401 then
        txn:set_var("txn.keymark_challenge", values(answer.headers, "www-authenticate")[1] or "Bearer")
        txn:set_var("txn.keymark_status", 401)
    else
        txn:set_var("txn.keymark_status", 503)
    end
end, 1)
