//! Who the program is to be when it runs.

use std::fs;
use std::str::FromStr;

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<User, String> {
        find(text, &read("/etc/passwd"), &read("/etc/group"))
    }
}

fn read(path: &str) -> String {
    // A system without the file has no names; numbers need none.
    fs::read_to_string(path).unwrap_or_default()
}

/// `NAME`, `UID`, and after a colon the group, which is else that of the user.
fn find(text: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, of_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let entry = |file: &str, name: &str| -> Option<Vec<String>> {
        let fields = file.lines().map(|l| l.split(':').map(str::to_string).collect::<Vec<_>>());
        let number = name.parse::<u32>().is_ok();
        fields.into_iter().find(|f| f.get(if number { 2 } else { 0 }).is_some_and(|field| field == name))
    };
    let number = |entry: &Option<Vec<String>>, field: usize| -> Option<u32> {
        entry.as_ref()?.get(field)?.parse().ok()
    };
    let known = entry(passwd, user);
    let uid = user.parse().ok().or(number(&known, 2)).ok_or_else(|| format!("there is no user {user:?}"))?;
    let gid = match of_group {
        Some(name) => {
            let gid = name.parse().ok().or(number(&entry(group, name), 2));
            gid.ok_or_else(|| format!("there is no group {name:?}"))?
        }
        None => number(&known, 3).ok_or_else(|| format!("user {uid} has no group: write {uid}:GID"))?,
    };
    // (uid_t) -1 means "as it was" to the kernel.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(format!("{} is no number of a user or group", u32::MAX));
    }
    Ok(User { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nvtep:x:990:991::/:/bin/false\nbroken:x\n";
        let group = "root:x:0:\nnet:x:77:vtep\n";
        let cases = [
            ("vtep", Ok((990, 991))),
            ("990", Ok((990, 991))),
            ("vtep:net", Ok((990, 77))),
            ("vtep:5", Ok((990, 5))),
            ("4000:5", Ok((4000, 5))),
            ("4000:net", Ok((4000, 77))),
            ("4000", Err("user 4000 has no group: write 4000:GID")),
            ("nobody-here", Err("there is no user \"nobody-here\"")),
            ("vtep:nothing", Err("there is no group \"nothing\"")),
            ("broken", Err("there is no user \"broken\"")),
            ("", Err("there is no user \"\"")),
            ("4294967295:1", Err("4294967295 is no number of a user or group")),
        ];
        for (text, want) in cases {
            let want = want.map(|(uid, gid)| User { uid, gid }).map_err(str::to_string);
            assert_eq!(find(text, passwd, group), want, "{text}");
        }
    }
}
