//! The commands: `{"commands": [{"command": "createClient", ...}]}`, answered by `{"responses": [...]}`.
//!
//! Names, fields and texts of errors are Mosquitto's. Where Mosquitto sends clients away so that they come back with
//! other rights, the new rights hold at once here; away go those whose credentials are not good any more.
use super::state::{
    About, AclEntry, Client, Group, MAX_ENTRIES, MAX_PRIORITY, Member, NO_PRIORITY, RoleEntry, RoleRef,
    State, compile_acl,
};
use serde_json::{Map, Value, json};

/// Commands in one message; more are refused.
const MAX_COMMANDS: usize = 1000;
/// Longest name of anything, bytes.
const MAX_NAME: usize = 65_535;

/// What follows from commands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// The rules are other ones.
    pub rules: bool,
    /// Users whose connections are to be ended.
    pub ended: Vec<String>,
}

type Answer = Result<Option<Value>, String>;

/// Carries out all commands of a message; those that fail change nothing and say why.
pub fn run(state: &mut State, payload: &[u8]) -> (String, Changes) {
    let mut changes = Changes::default();
    let Ok(request) = serde_json::from_slice::<Value>(payload) else {
        return (failed("Payload not valid JSON"), changes);
    };
    let Some(Value::Array(commands)) = request.get("commands") else {
        return (failed("Invalid/missing commands"), changes);
    };
    if commands.len() > MAX_COMMANDS {
        return (failed("Too many commands"), changes);
    }
    let mut responses = Vec::new();
    for command in commands {
        let Value::Object(fields) = command else {
            responses.push(json!({"command": "Unknown command", "error": "Command not an object"}));
            continue;
        };
        let name = fields.get("command").and_then(Value::as_str);
        let correlation = fields.get("correlationData");
        let answer = match name {
            _ if correlation.is_some_and(|data| !data.is_string()) => {
                Err("Invalid correlationData data type.".to_string())
            }
            None => Err("Missing command".to_string()),
            Some(name) => {
                // A command that fails in its middle leaves nothing behind; one that only looks needs no copy.
                let fields = Fields(fields);
                if name.starts_with("get") || name.starts_with("list") {
                    run_one(state, name, &fields, &mut changes)
                } else {
                    let (mut next, before) = (state.clone(), changes.clone());
                    let answer = run_one(&mut next, name, &fields, &mut changes);
                    match answer {
                        Ok(_) => *state = next,
                        Err(_) => changes = before,
                    }
                    answer
                }
            }
        };
        let mut response = Map::new();
        response.insert("command".to_string(), json!(name.unwrap_or("Unknown command")));
        match answer {
            Ok(None) => {}
            Ok(Some(data)) => _ = response.insert("data".to_string(), data),
            Err(error) => _ = response.insert("error".to_string(), json!(error)),
        }
        if let Some(correlation) = correlation.filter(|data| data.is_string()) {
            response.insert("correlationData".to_string(), correlation.clone());
        }
        responses.push(Value::Object(response));
    }
    (json!({ "responses": responses }).to_string(), changes)
}

/// The answer to a message none of whose commands was looked at.
pub fn failed(error: &str) -> String {
    json!({"responses": [{"command": "Unknown command", "error": error}]}).to_string()
}

/// The fields of one command.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn optional(&self, field: &str) -> Result<Option<&str>, String> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_NAME && !text.contains('\0') => Ok(Some(text)),
            Some(_) if field == "clientid" => Err("Invalid/missing client id".to_string()),
            Some(_) => Err(format!("Invalid/missing {field}")),
        }
    }

    fn required(&self, field: &str) -> Result<&str, String> {
        let text = self.optional(field)?.filter(|text| !text.is_empty());
        text.ok_or(format!("Invalid/missing {field}"))
    }

    /// What names something: text as it may be in a packet.
    fn name(&self, field: &str) -> Result<&str, String> {
        let name = self.required(field)?;
        if name.chars().all(is_ordinary) {
            return Ok(name);
        }
        let what = match field {
            "username" => "Username",
            "groupname" => "Group name",
            _ => "Role name",
        };
        Err(format!("{what} not valid UTF-8"))
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, String> {
        match self.0.get(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(format!("Invalid/missing {field}")),
        }
    }

    fn number(&self, field: &str) -> Result<Option<i64>, String> {
        match self.0.get(field) {
            None => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or(format!("Invalid/missing {field}")),
        }
    }

    fn priority(&self, default: i64) -> Result<i64, String> {
        Ok(self.number("priority")?.unwrap_or(default).clamp(-MAX_PRIORITY, MAX_PRIORITY))
    }

    /// Replaces what people call it, where that is given.
    fn about(&self, about: &mut About) -> Result<(), String> {
        if let Some(text) = self.optional("textname")? {
            about.textname = Some(text.to_string());
        }
        if let Some(text) = self.optional("textdescription")? {
            about.textdescription = Some(text.to_string());
        }
        Ok(())
    }

    /// The objects of a list; `None` if it is not given.
    fn list(&self, field: &str) -> Result<Option<Vec<Fields<'_>>>, String> {
        let Some(value) = self.0.get(field) else { return Ok(None) };
        let fail = || format!("Invalid/missing {field}");
        let list = value.as_array().ok_or_else(fail)?;
        let objects = list.iter().map(|entry| entry.as_object().map(Fields).ok_or_else(fail));
        objects.collect::<Result<Vec<_>, _>>().map(Some)
    }

    fn roles(&self, state: &State) -> Result<Option<Vec<RoleRef>>, String> {
        let Some(list) = self.list("roles")? else { return Ok(None) };
        let mut roles = Vec::new();
        for entry in list {
            put_role(&mut roles, state, &entry)?;
        }
        Ok(Some(roles))
    }

    fn acl(&self) -> Result<AclEntry, String> {
        let acl = AclEntry {
            acltype: self.required("acltype")?.to_string(),
            topic: self.required("topic")?.to_string(),
            priority: self.priority(0)?,
            allow: self.flag("allow")?.unwrap_or(false),
        };
        compile_acl(&acl)?;
        Ok(acl)
    }

    fn acls(&self) -> Result<Option<Vec<AclEntry>>, String> {
        let Some(list) = self.list("acls")? else { return Ok(None) };
        let mut acls = list.iter().map(Fields::acl).collect::<Result<Vec<_>, _>>()?;
        acls.sort_by_key(|acl| -acl.priority);
        Ok(Some(acls))
    }
}

fn put_role(roles: &mut Vec<RoleRef>, state: &State, fields: &Fields<'_>) -> Result<(), String> {
    let rolename = fields.name("rolename")?.to_string();
    if !state.roles.contains_key(&rolename) {
        return Err("Role not found".to_string());
    }
    roles.retain(|role| role.rolename != rolename);
    roles.push(RoleRef { rolename, priority: fields.priority(NO_PRIORITY)? });
    roles.sort_by(RoleRef::order);
    Ok(())
}

fn put_member(group: &mut Group, username: &str, priority: i64) {
    group.clients.retain(|member| member.username != username);
    group.clients.push(Member { username: username.to_string(), priority });
    group.clients.sort_by(|one, other| one.username.cmp(&other.username));
}

/// Puts a client into exactly the groups that are given.
fn set_groups(state: &mut State, username: &str, fields: &Fields<'_>) -> Result<(), String> {
    let Some(list) = fields.list("groups")? else { return Ok(()) };
    state.groups.values_mut().for_each(|group| group.clients.retain(|member| member.username != username));
    for entry in list {
        let group = state.groups.get_mut(entry.name("groupname")?).ok_or("Group not found")?;
        put_member(group, username, entry.priority(NO_PRIORITY)?);
    }
    Ok(())
}

fn client<'a>(state: &'a mut State, fields: &Fields<'_>) -> Result<&'a mut Client, String> {
    state.clients.get_mut(fields.name("username")?).ok_or("Client not found".to_string())
}

fn group<'a>(state: &'a mut State, fields: &Fields<'_>) -> Result<&'a mut Group, String> {
    state.groups.get_mut(fields.name("groupname")?).ok_or("Group not found".to_string())
}

fn role<'a>(state: &'a mut State, fields: &Fields<'_>) -> Result<&'a mut RoleEntry, String> {
    state.roles.get_mut(fields.name("rolename")?).ok_or("Role not found".to_string())
}

/// Neither a control character nor one that Unicode sets apart for no use.
fn is_ordinary(c: char) -> bool {
    !c.is_control() && u32::from(c) & 0xfffe != 0xfffe && !('\u{fdd0}'..='\u{fdef}').contains(&c)
}

fn room(count: usize) -> Result<(), String> {
    if count < MAX_ENTRIES { Ok(()) } else { Err(format!("There are {MAX_ENTRIES} already")) }
}

fn run_one(state: &mut State, name: &str, fields: &Fields<'_>, changes: &mut Changes) -> Answer {
    match name {
        "setDefaultACLAccess" => {
            for acl in fields.list("acls")?.ok_or("Missing/invalid actions array")? {
                // mosquitto_ctrl 2.0 says it in words.
                let allow = match (acl.flag("allow")?, acl.optional("access")?) {
                    (Some(allow), _) => allow,
                    (None, Some("allow")) => true,
                    (None, Some("deny")) => false,
                    _ => return Err("Invalid/missing allow".to_string()),
                };
                match acl.required("acltype")? {
                    "publishClientSend" => state.defaults.publish_client_send = allow,
                    "publishClientReceive" => state.defaults.publish_client_receive = allow,
                    "subscribe" => state.defaults.subscribe = allow,
                    "unsubscribe" => state.defaults.unsubscribe = allow,
                    _ => return Err("Invalid/missing acltype".to_string()),
                }
            }
        }
        "getDefaultACLAccess" => {
            let defaults = &state.defaults;
            let acl = |acltype: &str, allow: bool| json!({"acltype": acltype, "allow": allow});
            return Ok(Some(json!({"acls": [
                acl("publishClientSend", defaults.publish_client_send),
                acl("publishClientReceive", defaults.publish_client_receive),
                acl("subscribe", defaults.subscribe),
                acl("unsubscribe", defaults.unsubscribe),
            ]})));
        }
        "getDetails" => {
            return Ok(Some(json!({
                "clientCount": state.clients.len(),
                "groupCount": state.groups.len(),
                "roleCount": state.roles.len(),
            })));
        }
        "createClient" => {
            let username = fields.name("username")?;
            if state.clients.contains_key(username) {
                return Err("Client already exists".to_string());
            }
            room(state.clients.len())?;
            let mut new = Client::new(username);
            new.clientid = fields.optional("clientid")?.map(str::to_string);
            if let Some(password) = fields.optional("password")? {
                new.set_password(password)?;
            }
            fields.about(&mut new.about)?;
            new.roles = fields.roles(state)?.unwrap_or_default();
            state.clients.insert(username.to_string(), new);
            set_groups(state, username, fields)?;
        }
        "modifyClient" => {
            let roles = fields.roles(state)?;
            let known = client(state, fields)?;
            let is_other = fields.optional("clientid")?.map(str::to_string);
            if let Some(id) = is_other {
                known.clientid = Some(id).filter(|id| !id.is_empty());
                changes.ended.push(known.username.clone());
            }
            if let Some(password) = fields.optional("password")?.filter(|password| !password.is_empty()) {
                known.set_password(password)?;
                changes.ended.push(known.username.clone());
            }
            fields.about(&mut known.about)?;
            if let Some(roles) = roles {
                known.roles = roles;
            }
            let username = known.username.clone();
            set_groups(state, &username, fields)?;
        }
        "deleteClient" => {
            let username = client(state, fields)?.username.clone();
            state.clients.remove(&username);
            state.groups.values_mut().for_each(|group| {
                group.clients.retain(|member| member.username != username);
            });
            changes.ended.push(username);
        }
        "setClientPassword" => {
            let password = fields.optional("password")?.ok_or("Invalid/missing password")?.to_string();
            if password.is_empty() {
                return Err("Empty password is not allowed".to_string());
            }
            let known = client(state, fields)?;
            known.set_password(&password)?;
            changes.ended.push(known.username.clone());
        }
        "setClientId" => {
            let id = fields.optional("clientid")?.filter(|id| !id.is_empty()).map(str::to_string);
            let known = client(state, fields)?;
            known.clientid = id;
            changes.ended.push(known.username.clone());
        }
        "enableClient" => client(state, fields)?.disabled = false,
        "disableClient" => {
            let known = client(state, fields)?;
            known.disabled = true;
            changes.ended.push(known.username.clone());
        }
        "addClientRole" => {
            let mut roles = client(state, fields)?.roles.clone();
            put_role(&mut roles, state, fields)?;
            client(state, fields)?.roles = roles;
        }
        "removeClientRole" => remove_role(&mut client(state, fields)?.roles, fields)?,
        "getClient" => {
            let username = client(state, fields)?.username.clone();
            return Ok(Some(json!({ "client": show_client(state, &username) })));
        }
        "listClients" => {
            return list("clients", &state.clients, fields, |name| show_client(state, name));
        }
        "createGroup" => {
            let groupname = fields.name("groupname")?.to_string();
            if state.groups.contains_key(&groupname) {
                return Err("Group already exists".to_string());
            }
            room(state.groups.len())?;
            let roles = fields.roles(state)?.unwrap_or_default();
            let mut about = About::default();
            fields.about(&mut about)?;
            let new = Group { groupname: groupname.clone(), about, roles, clients: Vec::new() };
            state.groups.insert(groupname, new);
        }
        "modifyGroup" => {
            let roles = fields.roles(state)?;
            let mut members = Vec::new();
            for entry in fields.list("clients")?.unwrap_or_default() {
                let username = entry.name("username")?.to_string();
                if !state.clients.contains_key(&username) {
                    return Err("Client not found".to_string());
                }
                members.push((username, entry.priority(NO_PRIORITY)?));
            }
            let is_given = fields.0.contains_key("clients");
            let known = group(state, fields)?;
            fields.about(&mut known.about)?;
            if let Some(roles) = roles {
                known.roles = roles;
            }
            if is_given {
                known.clients.clear();
                members.iter().for_each(|(username, priority)| put_member(known, username, *priority));
            }
        }
        "deleteGroup" => {
            let groupname = group(state, fields)?.groupname.clone();
            if state.anonymous_group.as_ref() == Some(&groupname) {
                return Err("Deleting the anonymous group is forbidden".to_string());
            }
            state.groups.remove(&groupname);
        }
        "addGroupRole" => {
            fields.name("groupname")?;
            let rolename = fields.name("rolename")?;
            let mut roles = group(state, fields)?.roles.clone();
            if roles.iter().any(|role| role.rolename == rolename) {
                return Err("Group is already in this role".to_string());
            }
            put_role(&mut roles, state, fields)?;
            group(state, fields)?.roles = roles;
        }
        "removeGroupRole" => remove_role(&mut group(state, fields)?.roles, fields)?,
        "addGroupClient" => {
            let username = client(state, fields)?.username.clone();
            let known = group(state, fields)?;
            if known.clients.iter().any(|member| member.username == username) {
                return Err("Client is already in this group".to_string());
            }
            put_member(known, &username, fields.priority(NO_PRIORITY)?);
        }
        "removeGroupClient" => {
            let username = client(state, fields)?.username.clone();
            group(state, fields)?.clients.retain(|member| member.username != username);
        }
        "getGroup" => {
            let groupname = group(state, fields)?.groupname.clone();
            return Ok(Some(json!({ "group": show_group(state, &groupname) })));
        }
        "listGroups" => {
            return list("groups", &state.groups, fields, |name| show_group(state, name));
        }
        "setAnonymousGroup" => {
            state.anonymous_group = Some(group(state, fields)?.groupname.clone());
        }
        "getAnonymousGroup" => {
            let groupname = state.anonymous_group.clone().unwrap_or_default();
            return Ok(Some(json!({"group": {"groupname": groupname}})));
        }
        "createRole" => {
            let rolename = fields.name("rolename")?.to_string();
            if state.roles.contains_key(&rolename) {
                return Err("Role already exists".to_string());
            }
            room(state.roles.len())?;
            let mut about = About::default();
            fields.about(&mut about)?;
            let acls = fields.acls()?.unwrap_or_default();
            state.roles.insert(rolename.clone(), RoleEntry { rolename, about, acls });
        }
        "modifyRole" => {
            let acls = fields.acls()?;
            let known = role(state, fields)?;
            fields.about(&mut known.about)?;
            if let Some(acls) = acls {
                known.acls = acls;
            }
        }
        "deleteRole" => {
            let rolename = role(state, fields)?.rolename.clone();
            state.roles.remove(&rolename);
            let of_clients = state.clients.values_mut().map(|client| &mut client.roles);
            let of_groups = state.groups.values_mut().map(|group| &mut group.roles);
            of_clients.chain(of_groups).for_each(|roles| roles.retain(|role| role.rolename != rolename));
        }
        "addRoleACL" => {
            fields.name("rolename")?;
            let acl = fields.acl()?;
            let known = role(state, fields)?;
            if known.acls.iter().any(|other| other.acltype == acl.acltype && other.topic == acl.topic) {
                return Err("ACL with this topic already exists".to_string());
            }
            room(known.acls.len())?;
            known.acls.push(acl);
            known.acls.sort_by_key(|acl| -acl.priority);
        }
        "removeRoleACL" => {
            let (acltype, topic) = (fields.required("acltype")?, fields.required("topic")?);
            let known = role(state, fields)?;
            let before = known.acls.len();
            known.acls.retain(|acl| acl.acltype != acltype || acl.topic != topic);
            if known.acls.len() == before {
                return Err("ACL not found".to_string());
            }
        }
        "getRole" => {
            let rolename = role(state, fields)?.rolename.clone();
            return Ok(Some(json!({ "role": show_role(state, &rolename) })));
        }
        "listRoles" => {
            return list("roles", &state.roles, fields, |name| show_role(state, name));
        }
        _ => return Err("Unknown command".to_string()),
    }
    Ok(None)
}

fn remove_role(roles: &mut Vec<RoleRef>, fields: &Fields<'_>) -> Result<(), String> {
    let rolename = fields.name("rolename")?;
    roles.retain(|role| role.rolename != rolename);
    Ok(())
}

/// Names, or all about them with `verbose`; `count` of them (all for -1 or 0) behind the first `offset`.
fn list<T>(
    field: &str,
    entries: &std::collections::BTreeMap<String, T>,
    fields: &Fields<'_>,
    show: impl Fn(&str) -> Value,
) -> Answer {
    let verbose = fields.flag("verbose")?.unwrap_or(false);
    let offset = fields.number("offset")?.unwrap_or(0).max(0) as usize;
    let count = match fields.number("count")?.unwrap_or(-1) {
        count if count <= 0 => usize::MAX,
        count => count as usize,
    };
    let names = entries.keys().skip(offset).take(count);
    let shown: Vec<Value> = names.map(|name| if verbose { show(name) } else { json!(name) }).collect();
    let mut data = Map::new();
    data.insert("totalCount".to_string(), json!(entries.len()));
    data.insert(field.to_string(), Value::Array(shown));
    Ok(Some(Value::Object(data)))
}

fn show_about(object: &mut Map<String, Value>, about: &About) {
    for (field, text) in [("textname", &about.textname), ("textdescription", &about.textdescription)] {
        if let Some(text) = text {
            object.insert(field.to_string(), json!(text));
        }
    }
}

fn show_roles(roles: &[RoleRef]) -> Value {
    Value::Array(roles.iter().map(|role| ranked("rolename", &role.rolename, role.priority)).collect())
}

/// A name with its priority, if it has one.
fn ranked(field: &str, name: &str, priority: i64) -> Value {
    let mut object = Map::new();
    object.insert(field.to_string(), json!(name));
    if priority != NO_PRIORITY {
        object.insert("priority".to_string(), json!(priority));
    }
    Value::Object(object)
}

/// Everything but the password.
fn show_client(state: &State, username: &str) -> Value {
    let client = &state.clients[username];
    let mut object = Map::new();
    object.insert("username".to_string(), json!(username));
    if let Some(id) = &client.clientid {
        object.insert("clientid".to_string(), json!(id));
    }
    show_about(&mut object, &client.about);
    if client.disabled {
        object.insert("disabled".to_string(), json!(true));
    }
    object.insert("roles".to_string(), show_roles(&client.roles));
    let memberships = state.groups.values().filter_map(|group| {
        let member = group.clients.iter().find(|member| member.username == username)?;
        Some((member.priority, &group.groupname))
    });
    let mut memberships: Vec<_> = memberships.collect();
    memberships.sort_by_key(|(priority, _)| -priority);
    let groups = memberships.into_iter().map(|(priority, name)| ranked("groupname", name, priority));
    object.insert("groups".to_string(), Value::Array(groups.collect()));
    Value::Object(object)
}

fn show_group(state: &State, groupname: &str) -> Value {
    let group = &state.groups[groupname];
    let mut object = Map::new();
    object.insert("groupname".to_string(), json!(groupname));
    show_about(&mut object, &group.about);
    object.insert("roles".to_string(), show_roles(&group.roles));
    let show = |member: &Member| ranked("username", &member.username, member.priority);
    object.insert("clients".to_string(), Value::Array(group.clients.iter().map(show).collect()));
    Value::Object(object)
}

fn show_role(state: &State, rolename: &str) -> Value {
    let role = &state.roles[rolename];
    let mut object = Map::new();
    object.insert("rolename".to_string(), json!(rolename));
    show_about(&mut object, &role.about);
    let show = |acl: &AclEntry| json!({"acltype": acl.acltype, "topic": acl.topic, "priority": acl.priority, "allow": acl.allow});
    object.insert("acls".to_string(), Value::Array(role.acls.iter().map(show).collect()));
    Value::Object(object)
}
