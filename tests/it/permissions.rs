//! Who is asked: permission modes, rules, and what an answer makes the server remember.

use baton::base::Code;
use baton::domain::prompt::AnswerBody;
use baton::domain::{ActorKind, Event, EventBody};
use baton::wire::v1;

use crate::support::baton::Baton;
use crate::support::sessions::{allowed, denied};

/// One answer that nobody gave by hand: whether it allowed, the rule's id, and its name.
type Automatic = (bool, String, String);

fn automatic(events: &[Event]) -> Vec<Automatic> {
    let answers = events.iter().filter_map(|event| match &event.body {
        EventBody::PromptAnswered { answer, .. } if answer.by.kind == ActorKind::Rule => {
            Some(answer)
        }
        _ => None,
    });
    answers
        .map(|answer| {
            let AnswerBody::Decision(decision) = &answer.body else {
                panic!("a rule answers no question: {answer:?}");
            };
            let by = &answer.by;
            (decision.allow, by.id.clone(), by.name.clone())
        })
        .collect()
}

fn of_mode(
    mode: v1::PermissionMode,
    request: v1::CreateSessionRequest,
) -> v1::CreateSessionRequest {
    v1::CreateSessionRequest {
        permission_mode: mode.into(),
        ..request
    }
}

#[tokio::test]
async fn a_mode_answers_by_itself_and_its_answer_names_it() {
    let baton = Baton::start().await;
    for (mode, allow) in [
        (v1::PermissionMode::Auto, true),
        (v1::PermissionMode::Deny, false),
    ] {
        let name = mode.as_str_name().to_lowercase();
        let file = baton.project().join(&name);
        let id = baton
            .create(of_mode(mode, baton.demo(&format!("run: touch {name}"))))
            .await;
        let events = baton.turns(&id, 1).await;
        let word = name.trim_start_matches("permission_mode_");
        let by = format!("permission mode {word}");
        assert_eq!(automatic(&events), [(allow, String::new(), by)]);
        assert_eq!(file.exists(), allow);
        assert!(baton.pending(&id).await.is_empty());
        // The answer is an event behind the one that asked, and so is what became of it.
        let order = events.iter().filter_map(|event| match &event.body {
            EventBody::PromptRequested { .. } => Some("asked"),
            EventBody::PromptAnswered { .. } => Some("answered"),
            EventBody::PromptDelivered { .. } => Some("delivered"),
            _ => None,
        });
        assert_eq!(
            order.collect::<Vec<_>>(),
            ["asked", "answered", "delivered"]
        );
    }
    // A mode that reads only lets nothing else pass, and a question reaches a person even where all is allowed.
    for (mode, input) in [
        (v1::PermissionMode::AutoSafe, "run: touch unsafe"),
        (v1::PermissionMode::Ask, "run: touch asked"),
        (v1::PermissionMode::Auto, "ask: Sure?|yes|no"),
        (v1::PermissionMode::Auto, "plan: build it"),
    ] {
        let id = baton.create(of_mode(mode, baton.demo(input))).await;
        baton.prompt(&id).await;
        assert!(automatic(&baton.events(&id).await).is_empty(), "{input}");
    }
    // Where nobody is asked, a question is not either.
    let id = baton
        .create(of_mode(
            v1::PermissionMode::Deny,
            baton.demo("ask: Sure?|yes|no"),
        ))
        .await;
    let events = baton.turns(&id, 1).await;
    assert_eq!(automatic(&events).len(), 1);
}

#[tokio::test]
async fn a_daemon_that_allows_less_is_asked_for_no_more() {
    let mut baton = Baton::new().daemon_flags(&["--max-permission-mode", "ask"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let client = baton.client();
    let auto = of_mode(v1::PermissionMode::Auto, baton.demo("say: x"));
    let refused = client.create_session(auto).await.unwrap_err();
    assert_eq!(refused.code(), Code::NoDaemon);
    assert!(refused.message().contains("permission mode"), "{refused}");
    let id = baton.create(baton.demo("say: x")).await;
    let refused = client
        .set_session_options(v1::SetSessionOptionsRequest {
            session_id: id.clone(),
            permission_mode: v1::PermissionMode::Auto.into(),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert!(refused.message().contains("permission mode"), "{refused}");
    assert_eq!(
        baton.record(&id).await.permission_mode(),
        v1::PermissionMode::Ask
    );
}

#[tokio::test]
async fn a_rule_holds_where_it_says_and_a_deny_beats_an_allow() {
    let baton = Baton::start().await;
    let client = baton.client();
    let make = async |rule: v1::CreatePromptRuleRequest| {
        let made = client.create_prompt_rule(rule).await.unwrap();
        made.rule.unwrap()
    };
    let rule = |pattern: &str, allow| v1::CreatePromptRuleRequest {
        pattern: pattern.to_owned(),
        allow,
        ..Default::default()
    };
    for folder in ["a/deep", "ab"] {
        std::fs::create_dir_all(baton.project().join(folder)).unwrap();
    }
    let within = |folder: &str| baton.project().join(folder).to_string_lossy().into_owned();
    let in_folder = |folder: &str, input: &str| v1::CreateSessionRequest {
        cwd: within(folder),
        ..baton.demo(input)
    };

    // A directory: there and beneath it, and not beside it where the name only begins alike.
    let directory = make(v1::CreatePromptRuleRequest {
        directory: within("a"),
        ..rule("Bash(touch:*)", true)
    })
    .await;
    for folder in ["a", "a/deep"] {
        let id = baton.create(in_folder(folder, "run: touch made")).await;
        let answers = automatic(&baton.turns(&id, 1).await);
        let by = (true, directory.id.clone(), directory.pattern.clone());
        assert_eq!(answers, [by], "{folder}");
        assert!(baton.project().join(folder).join("made").exists());
    }
    let beside = baton.create(in_folder("ab", "run: touch made")).await;
    let asked = baton.prompt(&beside).await;

    // A session: that one, from now on, and no other.
    let session = make(v1::CreatePromptRuleRequest {
        session_id: beside.clone(),
        ..rule("Bash(touch:*)", true)
    })
    .await;
    baton.decide(&asked, denied("this once")).await;
    baton.turns(&beside, 1).await;
    baton.say(&beside, "run: touch later").await;
    let answers = automatic(&baton.turns(&beside, 2).await);
    assert_eq!(answers, [(true, session.id.clone(), session.pattern)]);
    let other = baton.create(in_folder("ab", "run: touch other")).await;
    baton.prompt(&other).await;

    // Everywhere; and a deny for one session beats both allows that it has.
    let everywhere = make(rule("Bash(mkdir:*)", true)).await;
    let id = baton
        .create(in_folder("a", "run: mkdir one\nrun: mkdir two"))
        .await;
    let answers = automatic(&baton.turns(&id, 1).await);
    let by = (true, everywhere.id.clone(), everywhere.pattern.clone());
    assert_eq!(answers, [by.clone(), by]);
    let deny = make(v1::CreatePromptRuleRequest {
        session_id: id.clone(),
        ..rule("Bash", false)
    })
    .await;
    baton.say(&id, "run: mkdir three\nrun: touch four").await;
    let answers = automatic(&baton.turns(&id, 2).await);
    let by = (false, deny.id.clone(), deny.pattern.clone());
    assert_eq!(answers[2..], [by.clone(), by]);
    for file in ["three", "four"] {
        assert!(!baton.project().join("a").join(file).exists());
    }
    // A mode that allows everything is no way around a deny.
    let auto = v1::SetSessionOptionsRequest {
        session_id: id.clone(),
        permission_mode: v1::PermissionMode::Auto.into(),
        ..Default::default()
    };
    client.set_session_options(auto).await.unwrap();
    baton.say(&id, "run: touch five").await;
    let answers = automatic(&baton.turns(&id, 3).await);
    assert_eq!(answers.last().map(|answer| answer.0), Some(false));

    // Nothing of it is lost with the server's memory.
    let mut baton = baton;
    baton.kill_server();
    baton.start_server().await;
    let rules = baton
        .client()
        .list_prompt_rules(v1::ListPromptRulesRequest::default())
        .await
        .unwrap();
    let ids: Vec<&str> = rules.rules.iter().map(|rule| &*rule.id).collect();
    assert_eq!(ids, [&directory.id, &session.id, &everywhere.id, &deny.id]);
}

#[tokio::test]
async fn what_is_remembered_is_a_rule_that_answers_is_listed_and_can_be_deleted() {
    let baton = Baton::start().await;
    let client = baton.client();
    for (remember, elsewhere) in [(v1::Remember::Session, false), (v1::Remember::Rule, true)] {
        let name = remember.as_str_name();
        let touch = format!("run: touch {name}");
        let id = baton.create(baton.demo(&touch)).await;
        let prompt = baton.prompt(&id).await;
        let answered = baton
            .decide(
                &prompt,
                v1::Decision {
                    remember: remember.into(),
                    ..allowed()
                },
            )
            .await;
        let rule = answered.rule.expect("a rule was made");
        assert_eq!(rule.pattern, format!("Bash(touch {name})"));
        let scope = if elsewhere { "" } else { id.as_str() };
        assert_eq!((rule.allow, rule.session_id.as_str()), (true, scope));
        let listed = async || {
            let request = v1::ListPromptRulesRequest::default();
            let page = client.list_prompt_rules(request).await.unwrap();
            page.rules.into_iter().any(|listed| listed.id == rule.id)
        };
        assert!(listed().await, "{name}");
        baton.turns(&id, 1).await;

        // The same again, which nobody is asked about; another command is.
        baton.say(&id, &touch).await;
        let by = (true, rule.id.clone(), rule.pattern.clone());
        let answers = automatic(&baton.turns(&id, 2).await);
        assert_eq!(answers, std::slice::from_ref(&by));
        baton.say(&id, &format!("{touch}.2")).await;
        let asked = baton.prompt(&id).await;
        baton.decide(&asked, denied("no")).await;
        baton.turns(&id, 3).await;

        let other = baton.create(baton.demo(&touch)).await;
        if elsewhere {
            assert_eq!(automatic(&baton.turns(&other, 1).await), [by]);
        } else {
            baton.prompt(&other).await;
        }

        let delete = v1::DeletePromptRuleRequest {
            rule_id: rule.id.clone(),
        };
        client.delete_prompt_rule(delete.clone()).await.unwrap();
        assert!(!listed().await, "{name}");
        let gone = client.delete_prompt_rule(delete).await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
        baton.say(&id, &touch).await;
        baton.prompt(&id).await;
    }
}

#[tokio::test]
async fn a_refusal_is_remembered_as_well() {
    let baton = Baton::start().await;
    let id = baton.create(baton.demo("run: touch never")).await;
    let prompt = baton.prompt(&id).await;
    let answered = baton
        .decide(
            &prompt,
            v1::Decision {
                remember: v1::Remember::Session.into(),
                ..denied("not that")
            },
        )
        .await;
    let rule = answered.rule.expect("a rule was made");
    assert!(!rule.allow);
    baton.turns(&id, 1).await;
    baton.say(&id, "run: touch never").await;
    let events = baton.turns(&id, 2).await;
    assert_eq!(automatic(&events), [(false, rule.id, rule.pattern)]);
    assert!(!baton.project().join("never").exists());
}

#[tokio::test]
async fn nothing_wider_than_what_was_asked_is_remembered_without_a_word() {
    let baton = Baton::start().await;
    let id = baton.create(baton.demo("run: echo a | cat > piped")).await;
    let prompt = baton.prompt(&id).await;
    let remember = v1::Decision {
        remember: v1::Remember::Session.into(),
        ..allowed()
    };
    let answer = |decision: v1::Decision| v1::AnswerPromptRequest {
        prompt_id: prompt.id.clone(),
        answer: Some(v1::answer_prompt_request::Answer::Decision(decision)),
        ..Default::default()
    };
    // There is no pattern of just this command, and "every command" is not what was allowed.
    let client = baton.client();
    let refused = client.answer_prompt(answer(remember.clone())).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidInput);
    assert_eq!(refused.fields()[0].field, "decision.pattern");
    assert_eq!(
        baton.pending(&id).await.len(),
        1,
        "the prompt waits as before"
    );
    let said = v1::Decision {
        pattern: "Bash".to_owned(),
        ..remember
    };
    let answered = client.answer_prompt(answer(said)).await.unwrap();
    assert_eq!(answered.rule.unwrap().pattern, "Bash");
    baton.turns(&id, 1).await;
    assert!(baton.project().join("piped").exists());
}
