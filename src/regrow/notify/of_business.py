"""What end users are told about failures of category `unrecoverable_business`: what they can do, in their words.

Nothing here comes from an error's text. An administrator reads the names too, where nobody knows the user.
"""

from __future__ import annotations

from regrow.model import BUSINESS
from regrow.notify.row import Row, _

_B = BUSINESS.key

ADVICE: tuple[Row, ...] = (
    Row(
        _B,
        (),
        r"(courier|carrier|快递|物流公司|承运)[^,，。]*(support|serve|available|支持)"
        r"|unsupported (courier|carrier)|不支持[^，。]*(快递|物流|承运)",
        _("this courier is not supported"),
        _("Please choose another courier and send your request again."),
    ),
    Row(
        _B,
        (),
        r"currenc|货币|币种",
        _("this currency is not supported"),
        _("Please choose another currency and send your request again."),
    ),
    Row(
        _B,
        (),
        r"payment method|支付方式",
        _("this way of paying is not accepted"),
        _("Please choose another way of paying."),
    ),
    Row(
        _B,
        (),
        r"countr|region|destination|(deliver|ship)\w* (to|in)|(delivery|service|shipping|coverage) (area|zone)"
        r"|(postal|zip) ?code|postcode|国家|地区|区域|城市|配送|派送|送达",
        _("not available in this country or region"),
        _("Please choose another address, or ask our support what is possible there."),
    ),
    Row(
        _B,
        (),
        r"(tracking|waybill|parcel|package|shipment)[^,]*(not|exist)|no (tracking|shipment)|查无|查询无|暂无"
        r"|(物流|轨迹|运单|单号|包裹|快递)[^，。]*(不存在|未找到|找不到)",
        _("no tracking information found"),
        _("Please check the tracking number and the courier. A parcel sent just now may show up only after a day."),
    ),
    Row(
        _B,
        (),
        r"stock|sold[- ]?out|inventory|库存|售罄|缺货|无货|已售完|余票|名额|已下架"
        r"|(item|product)[^,]*(unavailable|discontinued|no longer)|ProductUnavailable|product_inactive",
        _("not enough in stock"),
        _("Please order fewer, choose another article, or try again later."),
    ),
    Row(
        _B,
        (),
        r"funds|balance|enough money|NOTENOUGH|credit limit|余额|资金|钱包|积分(已)?不足",
        _("not enough money in the account"),
        _("Please top up the account, or pay in another way."),
    ),
    Row(
        _B,
        (),
        r"coupon|voucher|promo|discount|gift card|\boffer\b|优惠|活动",
        _("the coupon or offer is not valid"),
        _("Please choose another one, or go on without it."),
    ),
    Row(
        _B,
        (),
        r"3d ?secure|authentication_required|requires_action|PAYER_ACTION|payment_intent_authentication|verif\w+|kyc"
        r"|实名|认证|未成年|age (restriction|requirement)",
        _("a verification is needed"),
        _("Please complete the verification (your identity, or the payment with your bank), then try again."),
    ),
    Row(
        _B,
        (),
        r"\bcard|CardError|_card|\bcvc|\bcvv|incorrect_|declined|do[_ ]not[_ ]hono|fraud|issuer|TRANSACTION_REFUSED"
        r"|Payment(Error|Failed|Declined)|payment[^,]*refused|银行卡|卡号|拒付|被拒|风控",
        _("the payment was not accepted"),
        _("Please check the card's number, expiry date and security code, use another card, or ask your bank."),
    ),
    Row(
        _B,
        (),
        r"already (exist|in use|been taken|taken|registered|subscribed|a member)|Already(Exists|Registered)"
        r"|UsernameExists|已(经)?(存在|注册|绑定|被注册|被使用|被占用)",
        _("it exists already or is taken"),
        _("Please use what is there, or choose another name or number."),
    ),
    Row(
        _B,
        (),
        r"(account|user|customer|member|seller|subscription|profile)[^,]*"
        r"(suspend|disabl|lock|closed|block|frozen|deactivat|bann|terminat|inactive|restrict|on hold)|suspended"
        r"|(账号|账户|帐号|用户|会员)[^，。]*(冻结|禁用|封|停用|锁定|注销|异常)|黑名单|已拉黑",
        _("the account is locked"),
        _("Please contact our support to have the account checked."),
    ),
    Row(
        _B,
        ("business.mailbox", "smtp.business"),
        r"mailbox|recipient|e-?mail|user unknown|unknown user|inbox|bounce|hard bounce|undeliverable|address|phone"
        r"|handset|landline|opted|unsubscribed|收件人|签收人|邮箱|手机号|电话|联系人|空号|停机|关机|地址|拒收",
        _("the recipient cannot be reached"),
        _("Please check the recipient's e-mail address, phone number and postal address, then send it again."),
    ),
    Row(
        _B,
        (),
        r"duplicate|重复",
        _("the same request was sent before"),
        _("Please check whether the first one has gone through; if it has, there is nothing more to do."),
    ),
    Row(
        _B,
        (),
        r"cancell?ed|(?<!en)closed|expired|deleted|removed|archived|ended\b|ORDERCLOSED|TRADE_HAS_CLOSE"
        r"|已(经)?(取消|关闭|过期|删除|失效|作废|结束|截止)",
        _("it is cancelled, closed or expired"),
        _("Nothing more can be done with it. If you still need it, please start anew."),
    ),
    Row(
        _B,
        (),
        r"already|ORDERPAID|TRADE_HAS_SUCCESS"
        r"|已(经)?(支付|发货|退款|签收|完成|使用|领取|提交|核销|成交|参加|满)",
        _("it was done before"),
        _("It need not be done again. If something looks wrong, please ask our support."),
    ),
    Row(
        _B,
        (),
        r"limit|minimum|maximum|below|exceed|too (small|large)|限额|限购|起送|超过|超出|未达到",
        _("outside of what is allowed"),
        _("Please change the amount or quantity so that it lies within the limits."),
    ),
    Row(
        _B,
        (),
        r"cannot|can't|can not|could not|may not|not (allowed|permitted|possible|eligible)|ineligible|eligib"
        r"|stat(e|us)\b|不能|无法|不可|不允许|不符合|状态",
        _("not possible as things stand"),
        _("Please look at its current state, or ask our support what is possible."),
    ),
    Row(
        _B,
        ("http.missing", "class.missing", "grpc.business"),
        r"not (be |been )?found|NotFound|no such|NoSuch|DoesNotExist|NoResult|(not|n't|no longer) exist|NOT_?EXIST"
        r"|no (row|result|record|object|order|user|item|entry)|unknown|resource_missing|不存在|找不到|未找到|没有找到",
        _("what was asked for was not found"),
        _("Please check the number or name that you gave. It may also have been removed."),
    ),
    Row(
        _B,
        (),
        r"support|available|不支持|不可用",
        _("this is not supported"),
        _("Please choose another option, or ask our support."),
    ),
    Row(
        _B,
        (),
        "",
        _("a business rule said no"),
        _("Please check what you asked for, change it and try again, or ask our support."),
    ),
)
