//! Clients, groups and roles, in the layout of Mosquitto's `dynamic-security.json`.
use crate::auth::backend::hash::{Hash, pbkdf2_sha512, salt};
use crate::auth::roles::{AclType, DefaultAccess, Role, RoleAcl, Roles};
use crate::auth::rule::Pattern;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Clients, groups and roles at most, of each.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Rounds of PBKDF2 for passwords that are set here: some 15 ms of one core.
const ROUNDS: u32 = 20_000;
/// The priority of roles and members that are given none.
pub const NO_PRIORITY: i64 = -1;
/// Priorities that there are, either way from zero.
pub const MAX_PRIORITY: i64 = 100_000;

/// The text that is only for people to read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// A name.
    #[serde(default, alias = "textName", skip_serializing_if = "Option::is_none")]
    pub textname: Option<String>,
    /// A description.
    #[serde(default, alias = "textDescription", skip_serializing_if = "Option::is_none")]
    pub textdescription: Option<String>,
}

/// A role that a client or group has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoleRef {
    /// Its name.
    pub rolename: String,
    /// Higher is asked earlier.
    #[serde(default = "no_priority", skip_serializing_if = "has_no_priority")]
    pub priority: i64,
}

impl RoleRef {
    /// The order among the roles of one client or group: by priority, then by name.
    pub fn order(&self, other: &RoleRef) -> Ordering {
        other.priority.cmp(&self.priority).then_with(|| self.rolename.cmp(&other.rolename))
    }
}

/// A client that a group has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its user name.
    pub username: String,
    /// For this client, groups with a higher one are asked earlier.
    #[serde(default = "no_priority", skip_serializing_if = "has_no_priority")]
    pub priority: i64,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The user name.
    pub username: String,
    /// What people call it.
    #[serde(flatten)]
    pub about: About,
    /// The only client id it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clientid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iterations: Option<u32>,
    /// It cannot log in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// Its own roles.
    #[serde(default)]
    pub roles: Vec<RoleRef>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?}, {:?})", self.username, self.roles)
    }
}

impl Client {
    /// A user that cannot log in until it has a password.
    pub fn new(username: &str) -> Client {
        Client {
            username: username.to_string(),
            about: About::default(),
            clientid: None,
            password: None,
            salt: None,
            iterations: None,
            disabled: false,
            roles: Vec::new(),
        }
    }

    /// Sets the password. Takes some time.
    pub fn set_password(&mut self, password: &str) -> Result<(), String> {
        let salt = salt()?;
        let digest = pbkdf2_sha512(password.as_bytes(), &salt, ROUNDS);
        self.password = Some(BASE64_STANDARD.encode(digest));
        self.salt = Some(BASE64_STANDARD.encode(salt));
        self.iterations = Some(ROUNDS);
        Ok(())
    }

    /// The hash of its password, if it has one.
    pub fn hash(&self) -> Option<Hash> {
        let (password, salt) = (self.password.as_ref()?, self.salt.as_ref()?);
        Hash::parse(&format!("$7${}${salt}${password}", self.iterations?)).ok()
    }
}

/// A group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub groupname: String,
    /// What people call it.
    #[serde(flatten)]
    pub about: About,
    /// Its roles.
    #[serde(default)]
    pub roles: Vec<RoleRef>,
    /// Its clients.
    #[serde(default)]
    pub clients: Vec<Member>,
}

/// An entry of a role.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AclEntry {
    /// Name of the type.
    pub acltype: String,
    /// Topic or filter; `%u` and `%c` stand for user name and client id.
    pub topic: String,
    /// Higher is asked earlier.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i64,
    /// Allows or denies.
    pub allow: bool,
}

/// A role.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoleEntry {
    /// Its name.
    pub rolename: String,
    /// What people call it.
    #[serde(flatten)]
    pub about: About,
    /// Its entries.
    #[serde(default)]
    pub acls: Vec<AclEntry>,
}

/// What is done where no role says anything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// Publishing.
    pub publish_client_send: bool,
    /// Being delivered messages.
    pub publish_client_receive: bool,
    /// Subscribing.
    pub subscribe: bool,
    /// Unsubscribing.
    pub unsubscribe: bool,
}

impl Default for Defaults {
    fn default() -> Defaults {
        let DefaultAccess { publish_client_send, publish_client_receive, subscribe, unsubscribe } =
            DefaultAccess::default();
        Defaults { publish_client_send, publish_client_receive, subscribe, unsubscribe }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    #[serde(default)]
    clients: Vec<Client>,
    #[serde(default)]
    groups: Vec<Group>,
    #[serde(default)]
    roles: Vec<RoleEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anonymous_group: Option<String>,
    #[serde(default, rename = "defaultACLAccess")]
    default_access: Defaults,
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// By user name.
    pub clients: BTreeMap<String, Client>,
    /// By name.
    pub groups: BTreeMap<String, Group>,
    /// By name.
    pub roles: BTreeMap<String, RoleEntry>,
    /// The group of clients that do not say who they are.
    pub anonymous_group: Option<String>,
    /// Where no role says anything.
    pub defaults: Defaults,
}

impl State {
    /// What `ringmq dynsec init` writes: one user that may administrate, and read everything.
    pub fn initial(admin: &str, password: &str) -> Result<State, String> {
        let acl = |kind: AclType, topic: &str| AclEntry {
            acltype: kind.name().to_string(),
            topic: topic.to_string(),
            priority: 0,
            allow: true,
        };
        let control = "$CONTROL/dynamic-security/#";
        let mut acls = vec![acl(AclType::PublishClientSend, control)];
        for topic in [control, "$SYS/#", "#"] {
            acls.push(acl(AclType::PublishClientReceive, topic));
            acls.push(acl(AclType::SubscribePattern, topic));
        }
        acls.push(acl(AclType::UnsubscribePattern, "#"));
        let role = RoleEntry { rolename: "admin".to_string(), about: About::default(), acls };
        let mut client = Client::new(admin);
        client.set_password(password)?;
        client.roles.push(RoleRef { rolename: role.rolename.clone(), priority: NO_PRIORITY });
        let mut state = State::default();
        state.clients.insert(admin.to_string(), client);
        state.roles.insert(role.rolename.clone(), role);
        Ok(state)
    }

    /// Reads a file.
    pub fn parse(text: &str) -> Result<State, String> {
        let layout: Layout = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let named = |name: &str, kind: &str| match name.is_empty() {
            true => Err(format!("a {kind} has no name")),
            false => Ok(name.to_string()),
        };
        let mut state = State {
            anonymous_group: layout.anonymous_group,
            defaults: layout.default_access,
            ..State::default()
        };
        for role in layout.roles {
            for acl in &role.acls {
                compile_acl(acl).map_err(|error| format!("{error}: {} {}", acl.acltype, acl.topic))?;
            }
            state.roles.insert(named(&role.rolename, "role")?, role);
        }
        for client in layout.clients {
            if client.password.is_some() && client.hash().is_none() {
                return Err(format!("the password of {} is not PBKDF2-SHA512", client.username));
            }
            state.clients.insert(named(&client.username, "client")?, client);
        }
        for group in layout.groups {
            state.groups.insert(named(&group.groupname, "group")?, group);
        }
        state.check_names()?;
        Ok(state)
    }

    /// What is referred to is there.
    fn check_names(&self) -> Result<(), String> {
        let roles = self.clients.values().map(|client| &client.roles);
        let roles = roles.chain(self.groups.values().map(|group| &group.roles)).flatten();
        if let Some(missing) = roles.map(|role| &role.rolename).find(|name| !self.roles.contains_key(*name)) {
            return Err(format!("there is no role {missing}"));
        }
        let members = self.groups.values().flat_map(|group| &group.clients);
        if let Some(missing) =
            members.map(|member| &member.username).find(|name| !self.clients.contains_key(*name))
        {
            return Err(format!("there is no client {missing}"));
        }
        match &self.anonymous_group {
            Some(group) if !self.groups.contains_key(group) => Err(format!("there is no group {group}")),
            _ => Ok(()),
        }
    }

    /// The text of a file.
    pub fn text(&self) -> String {
        let layout = Layout {
            clients: self.clients.values().cloned().collect(),
            groups: self.groups.values().cloned().collect(),
            roles: self.roles.values().cloned().collect(),
            anonymous_group: self.anonymous_group.clone(),
            default_access: self.defaults.clone(),
        };
        serde_json::to_string_pretty(&layout).expect("names and numbers can be written as JSON")
    }

    /// What the shards need of it.
    pub fn compile(&self) -> Roles {
        let roles: BTreeMap<&str, Arc<Role>> =
            self.roles.iter().map(|(name, role)| (name.as_str(), Arc::new(compile_role(role)))).collect();
        let in_order = |refs: &[RoleRef]| -> Vec<Arc<Role>> {
            let mut refs: Vec<&RoleRef> = refs.iter().collect();
            refs.sort_by(|one, other| one.order(other));
            refs.iter().filter_map(|role| roles.get(role.rolename.as_str()).cloned()).collect()
        };
        let mut groups: BTreeMap<&str, Vec<(i64, &Group)>> = BTreeMap::new();
        for group in self.groups.values() {
            for member in &group.clients {
                groups.entry(&member.username).or_default().push((member.priority, group));
            }
        }
        let mut clients = BTreeMap::new();
        for client in self.clients.values().filter(|client| !client.disabled) {
            let mut all = in_order(&client.roles);
            if let Some(groups) = groups.get_mut(client.username.as_str()) {
                groups.sort_by_key(|(priority, _)| -priority);
                groups.iter().for_each(|(_, group)| all.extend(in_order(&group.roles)));
            }
            clients.insert(client.username.as_str().into(), all);
        }
        let anonymous = self.anonymous_group.as_ref().and_then(|group| self.groups.get(group));
        let Defaults { publish_client_send, publish_client_receive, subscribe, unsubscribe } = self.defaults;
        Roles {
            clients,
            anonymous: anonymous.map(|group| in_order(&group.roles)),
            default: DefaultAccess { publish_client_send, publish_client_receive, subscribe, unsubscribe },
        }
    }
}

fn compile_role(role: &RoleEntry) -> Role {
    let mut acls: Vec<&AclEntry> = role.acls.iter().collect();
    acls.sort_by_key(|acl| -acl.priority);
    let acls = acls.into_iter().filter_map(|acl| compile_acl(acl).ok()).collect();
    Role { name: role.rolename.as_str().into(), acls }
}

/// An entry as the shards need it, or why it is none.
pub fn compile_acl(acl: &AclEntry) -> Result<RoleAcl, String> {
    let kind = AclType::from_name(&acl.acltype).ok_or("Unknown acltype")?;
    let pattern = Pattern::new(&acl.topic).map_err(|_| "Invalid ACL topic")?;
    Ok(RoleAcl { kind, pattern, allow: acl.allow })
}

fn no_priority() -> i64 {
    NO_PRIORITY
}
fn has_no_priority(priority: &i64) -> bool {
    *priority == NO_PRIORITY
}
fn is_zero(number: &i64) -> bool {
    *number == 0
}
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::rule::{Operation, Ruling, Subject};

    /// What `mosquitto_ctrl dynsec init` wrote for admin with the password adminpw, shortened.
    const OF_MOSQUITTO: &str = r##"{
        "clients": [{
            "username": "admin", "textName": "Dynsec admin user",
            "password": "FActg0fLxfjcrdrYNgO9/iZjkAe2OXS1kMsHUm3gUy46iibm0TguB5cP97sXfmaFye6Hodm7zdE1g3FVfIFQZA==",
            "salt": "3N/c35V4OOOAvlK7", "iterations": 101, "roles": [{"rolename": "admin"}]
        }],
        "roles": [{"rolename": "admin", "acls": [
            {"acltype": "publishClientSend", "topic": "$CONTROL/dynamic-security/#", "allow": true},
            {"acltype": "subscribePattern", "topic": "#", "allow": true}
        ]}],
        "defaultACLAccess": {
            "publishClientSend": false, "publishClientReceive": true, "subscribe": false, "unsubscribe": true
        }
    }"##;

    #[test]
    fn mosquittos_file_is_read_and_written() {
        let state = State::parse(OF_MOSQUITTO).unwrap();
        let admin = &state.clients["admin"];
        assert!(admin.hash().unwrap().verify(b"adminpw") && !admin.hash().unwrap().verify(b"x"));
        assert_eq!(admin.about.textname.as_deref(), Some("Dynsec admin user"));
        assert_eq!(State::parse(&state.text()).unwrap(), state);
        let roles = state.compile();
        let subject = Subject { user: Some("admin"), client_id: "c" };
        let ruling = roles.judge(&subject, Operation::Publish, "$CONTROL/dynamic-security/v1");
        assert!(matches!(ruling, Ruling::Allow(_)));
    }

    #[test]
    fn roles_are_asked_by_priority_own_ones_first() {
        let mut state = State::initial("admin", "x").unwrap();
        for name in ["low", "even", "high", "group", "other"] {
            let role = RoleEntry { rolename: name.into(), about: About::default(), acls: Vec::new() };
            state.roles.insert(name.to_string(), role);
        }
        let role = |name: &str, priority| RoleRef { rolename: name.to_string(), priority };
        state.clients.get_mut("admin").unwrap().roles =
            vec![role("low", -1), role("even", -1), role("high", 5)];
        for (name, rolename, priority) in [("a", "group", 1), ("b", "other", 2)] {
            let clients = vec![Member { username: "admin".to_string(), priority }];
            let about = About::default();
            let group =
                Group { groupname: name.to_string(), about, roles: vec![role(rolename, 100)], clients };
            state.groups.insert(name.to_string(), group);
        }
        let roles = state.compile();
        let names: Vec<&str> = roles.clients["admin"].iter().map(|role| &*role.name).collect();
        assert_eq!(names, ["high", "even", "low", "other", "group"]);
        state.clients.get_mut("admin").unwrap().disabled = true;
        assert!(state.compile().clients.is_empty());
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused() {
        for (text, expected) in [
            ("", "EOF"),
            (r#"{"clients":[{"username":""}]}"#, "no name"),
            (r#"{"clients":[{"username":"a","roles":[{"rolename":"x"}]}]}"#, "no role x"),
            (r#"{"groups":[{"groupname":"g","clients":[{"username":"x"}]}]}"#, "no client x"),
            (r#"{"anonymousGroup":"x"}"#, "no group x"),
            (r#"{"roles":[{"rolename":"r","acls":[{"acltype":"x","topic":"a","allow":true}]}]}"#, "acltype"),
            (r#"{"clients":[{"username":"a","password":"p","salt":"s","iterations":1}]}"#, "PBKDF2"),
        ] {
            let error = State::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
